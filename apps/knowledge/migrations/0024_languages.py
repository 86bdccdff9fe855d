"""Words are read by the language of their document, and those of scripts without spaces in pairs of characters.

`tsv` was generated. Another expression for it would write every passage anew, behind a lock that lets nobody read; as a
column that a trigger fills, it keeps what it has. What the release before stores is read as its document is.
"""

from __future__ import annotations

import django.contrib.postgres.search
from django.db import migrations, models

# Thai, Lao, Burmese, Khmer, kana, Han and Hangul: PostgreSQL takes what stands between two spaces for one word.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
# Of ABCDE the pairs AB and CD, with E; then, without the first, BC and DE.
WORDS = rf"""
    CREATE FUNCTION words_of(stemming text, body text) RETURNS tsvector
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, public AS $$
        SELECT to_tsvector(stemming::regconfig, CASE WHEN body ~ '[{UNSPACED}]' THEN
            regexp_replace(body, '[{UNSPACED}]{{1,2}}', ' \& ', 'g') || ' ' || regexp_replace(
                regexp_replace(
                    regexp_replace(body, '(^|[^{UNSPACED}])[{UNSPACED}]', '\1 ', 'g'),
                    '[^{UNSPACED}]+', ' ', 'g'
                ), '[{UNSPACED}]{{1,2}}', ' \& ', 'g'
            )
        ELSE body END)
    $$
"""
FILL = """
    CREATE FUNCTION chunk_words() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
    DECLARE
        stemming text := coalesce(
            NEW.stemming, (SELECT d.stemming FROM public.knowledge_document d WHERE d.id = NEW.document_id), 'english'
        );
    BEGIN
        NEW.tsv := setweight(public.words_of(stemming, array_to_string(NEW.heading, ' ')), 'B')
            || setweight(public.words_of(stemming, NEW.text), 'D');
        RETURN NEW;
    END
    $$;
    ALTER TABLE knowledge_chunk ALTER COLUMN tsv DROP EXPRESSION;
    CREATE TRIGGER chunk_words BEFORE INSERT OR UPDATE OF heading, text, stemming, tsv ON knowledge_chunk
        FOR EACH ROW EXECUTE FUNCTION chunk_words();
    -- Whoever writes passages, as a generated column would be written.
    ALTER TABLE knowledge_chunk ENABLE ALWAYS TRIGGER chunk_words
"""
# Back to a column that is generated: every passage is written anew.
GENERATE = """
    DROP TRIGGER chunk_words ON knowledge_chunk;
    DROP FUNCTION chunk_words();
    DROP INDEX chunk_words;
    ALTER TABLE knowledge_chunk DROP COLUMN tsv;
    ALTER TABLE knowledge_chunk ADD COLUMN tsv tsvector GENERATED ALWAYS AS (chunk_tsv(heading, text)) STORED;
    CREATE INDEX chunk_words ON knowledge_chunk USING gin (tenant_id, tsv)
"""


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0023_languages_of_documents")]

    operations = [
        migrations.AddField(
            model_name="chunk",
            name="stemming",
            field=models.CharField(editable=False, max_length=20, null=True),
        ),
        migrations.RunSQL(WORDS, "DROP FUNCTION words_of(text, text)"),
        migrations.RunSQL(
            FILL,
            GENERATE,
            state_operations=[
                migrations.AlterField(
                    model_name="chunk",
                    name="tsv",
                    field=django.contrib.postgres.search.SearchVectorField(editable=False, null=True),
                )
            ],
        ),
    ]
