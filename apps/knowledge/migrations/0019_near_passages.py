"""hybrid_passages() has those near the question found by their layout, in near_passages(). All else is as it was."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction

# $7 are words of the question, $8 the documents to search, or NULL for all; EXECUTE plans for the values given.
# Words like the question's own are looked for where no passage holds the word itself, or a part of an identifier: a
# question that is spelled as the documents are costs nothing here. `<%` is the index's way to word_similarity(), whose
# threshold the function sets. Each use of it reads a whole passage, and long ones hold many of a word's trigrams, so they
# also have to hold its beginning; what is like more than 200 tells them not apart; and in more than 50,000 passages
# there would be too many to read in the time that a question has.
RANKED = """
    WITH searched AS MATERIALIZED (
        SELECT sum(passages) AS passages FROM public.knowledge_document d
        WHERE d.tenant_id = %1$L AND d.collection_id = ANY($2)
    ), near AS (
        SELECT id, distance, row_number() OVER (ORDER BY distance, id) AS place
        FROM public.near_passages($1, $2, $3, $8, $5)
    ), words AS (
        SELECT lexeme, array_to_tsvector(ARRAY[lexeme])::text::tsquery AS word
        FROM unnest(to_tsvector('english', $4))
    ), held AS MATERIALIZED (
        SELECT lexeme, word, holders FROM words CROSS JOIN LATERAL (
            SELECT array_agg(c.id) AS holders FROM public.knowledge_chunk c
            WHERE c.tenant_id = %1$L AND c.collection_id = ANY($2) AND c.live AND c.tsv @@ word
                AND ($8 IS NULL OR c.document_id = ANY($8))
        ) of_word
        WHERE holders IS NOT NULL
    ), deciding AS MATERIALIZED (
        SELECT word, holders, round(1000 * ln(1 + (
            (SELECT passages FROM searched) - cardinality(holders) + 0.5::float8) / (cardinality(holders) + 0.5::float8)))::int AS weight
        FROM held ORDER BY cardinality(holders), word LIMIT $6
    ), weighed AS (
        SELECT id, sum(weight) AS weight FROM deciding, unnest(holders) AS id
        GROUP BY id ORDER BY weight DESC FETCH FIRST ($5) ROWS WITH TIES
    ), worded AS (
        SELECT id, weight, row_number() OVER (ORDER BY weight DESC, rank DESC, id) AS place FROM (
            SELECT id, weight, ts_rank(c.tsv, (SELECT string_agg(word::text, ' | ')::tsquery FROM deciding), 1) AS rank
            FROM weighed JOIN public.knowledge_chunk c USING (id) WHERE c.tenant_id = %1$L
        ) ranked
        ORDER BY place LIMIT $5
    ), spelled AS MATERIALIZED (
        SELECT spelling FROM unnest($7) WITH ORDINALITY AS asked (spelling, number)
        WHERE EXISTS (
            SELECT FROM unnest(to_tsvector('english', spelling)) part
            WHERE NOT EXISTS (SELECT FROM held WHERE held.lexeme = part.lexeme)
        ) AND (SELECT passages FROM searched) <= 50000
        ORDER BY number LIMIT 3
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
"""


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0018_layouts")]

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
                "knowledge_document": ("tenant_id", "collection_id", "passages"),
                "knowledge_chunk": ("id", "tenant_id", "collection_id", "document_id", "live", "tsv", "text"),
            },
            language="plpgsql",
            attributes="STABLE ROWS 80",
        ),
    ]
