"""hybrid_passages reads a question as the documents are read: once for each language that is common among them.

Its name, its arguments and what it returns stay, so that the release before calls it, too. One row more, without a
passage, tells of the question: as `weight` what all its words weigh, and as `alike` how many of those that stand nowhere
were not looked for by their spelling. That release joins it to nothing.
What is near the question it has found by its layout, in near_passages().
"""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction

# As in 0014_hybrid.py, which says what $7 and $8 are and why, but for `spoken` and all that asks it, and for `whole`. A word that
# two languages have the same stem of is looked up once. Words that stand nowhere weigh most. The language that makes the
# least of a question is the one it is written in: to the others its endings and its "the" are words that nobody uses.
RANKED = """
    WITH searched AS MATERIALIZED (
        SELECT d.stemming, sum(d.passages) AS passages FROM public.knowledge_document d
        WHERE d.tenant_id = %1$L AND d.collection_id = ANY($2) GROUP BY d.stemming
    ), spoken AS MATERIALIZED (
        SELECT stemming FROM searched ORDER BY passages DESC, stemming LIMIT 4
    ), near AS (
        SELECT id, distance, row_number() OVER (ORDER BY distance, id) AS place
        FROM public.near_passages($1, $2, $3, $8, $5)
    ), readings AS MATERIALIZED (
        SELECT stemming, lexeme FROM spoken CROSS JOIN LATERAL unnest(public.words_of(stemming, $4))
    ), words AS MATERIALIZED (
        SELECT DISTINCT lexeme, array_to_tsvector(ARRAY[lexeme])::text::tsquery AS word FROM readings
    ), looked_up AS MATERIALIZED (
        SELECT lexeme, word, holders, round(1000 * ln(1 + (
            greatest((SELECT sum(passages) FROM searched) - held_by, 0) + 0.5::float8)
            / (held_by + 0.5::float8)))::int AS weight
        FROM words CROSS JOIN LATERAL (
            SELECT array_agg(c.id) AS holders, count(*) AS held_by FROM public.knowledge_chunk c
            WHERE c.tenant_id = %1$L AND c.collection_id = ANY($2) AND c.live AND c.tsv @@ word
                AND ($8 IS NULL OR c.document_id = ANY($8))
        ) of_word
    ), held AS MATERIALIZED (
        SELECT lexeme, word, holders, weight FROM looked_up WHERE holders IS NOT NULL
    ), whole AS (
        SELECT min(weight) AS weight FROM (
            SELECT sum(weight) AS weight FROM readings JOIN looked_up USING (lexeme) GROUP BY stemming
        ) by_reading
    ), deciding AS MATERIALIZED (
        SELECT word, holders, weight FROM held ORDER BY cardinality(holders), word LIMIT $6
    ), weighed AS (
        SELECT id, sum(weight) AS weight FROM deciding, unnest(holders) AS id
        GROUP BY id ORDER BY weight DESC FETCH FIRST ($5) ROWS WITH TIES
    ), worded AS (
        SELECT id, weight, row_number() OVER (ORDER BY weight DESC, rank DESC, id) AS place FROM (
            SELECT id, weight, ts_rank(c.tsv, (SELECT string_agg(word::text, ' | ')::tsquery FROM deciding), 1) AS rank
            FROM weighed JOIN public.knowledge_chunk c USING (id) WHERE c.tenant_id = %1$L
        ) ranked
        ORDER BY place LIMIT $5
    ), strange AS MATERIALIZED (
        SELECT spelling FROM unnest($7) WITH ORDINALITY AS asked (spelling, number)
        WHERE NOT EXISTS (
            SELECT FROM spoken WHERE NOT EXISTS (
                SELECT FROM unnest(public.words_of(stemming, spelling)) part
                WHERE NOT EXISTS (SELECT FROM held WHERE held.lexeme = part.lexeme)
            )
        )
        ORDER BY number LIMIT 3
    ), spelled AS MATERIALIZED (
        SELECT spelling FROM strange WHERE (SELECT sum(passages) FROM searched) <= 50000
    ), alike AS (
        SELECT id, similarity, row_number() OVER (ORDER BY similarity DESC, id) AS place FROM (
            SELECT id, sum(likeness) AS similarity FROM spelled CROSS JOIN LATERAL (
                SELECT c.id, word_similarity(spelling, c.text) AS likeness FROM public.knowledge_chunk c
                WHERE c.tenant_id = %1$L AND c.collection_id = ANY($2) AND c.live
                    AND c.text ILIKE '%%' || left(spelling, 3) || '%%' AND spelling <%% c.text
                    AND ($8 IS NULL OR c.document_id = ANY($8))
                LIMIT 200
            ) like_it
            GROUP BY id
        ) similar_ones
        ORDER BY place LIMIT $5
    )
    SELECT id, near.place, near.distance::float4, worded.place, worded.weight::bigint, alike.place,
        alike.similarity::float4
    FROM near FULL JOIN worded USING (id) FULL JOIN alike USING (id)
    UNION ALL SELECT NULL, NULL, NULL, NULL, weight::bigint,
        (SELECT count(*) FROM strange WHERE (SELECT sum(passages) FROM searched) > 50000), NULL
    FROM whole WHERE weight IS NOT NULL
"""


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0024_languages")]

    operations = [
        DefinerFunction(
            "hybrid_passages",
            "index uuid, collections uuid[], question_vector halfvec, question text, depth int, deciding int,"
            " spellings text[], documents uuid[]",
            "TABLE (id uuid, near bigint, distance float4, worded bigint, weight bigint, alike bigint,"
            " similarity float4)",
            f"""
            BEGIN
                PERFORM set_config('pg_trgm.word_similarity_threshold', '0.5', true);
                RETURN QUERY EXECUTE format($statement${RANKED}$statement$, current_setting('app.tenant')::uuid)
                    USING index, collections, question_vector, question, depth, deciding, spellings, documents;
            END
            """,
            reads={
                "knowledge_document": ("tenant_id", "collection_id", "passages", "stemming"),
                "knowledge_chunk": ("id", "tenant_id", "collection_id", "document_id", "live", "tsv", "text"),
            },
            language="plpgsql",
            attributes="STABLE ROWS 80",
        ),
    ]
