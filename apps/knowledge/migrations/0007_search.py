"""The function that search.py asks: the places of passages among those near a question and those that share its words.

Under a policy PostgreSQL uses no index for an operator that may leak, and `@@` is one: it would read every passage of
the tenant for each word. The search role's own policy lets everything pass, so the tenant's filter is the statement's:
`app.tenant` and nothing else names it, written as a literal so that the plan is made for this tenant. Passages
themselves are read by the caller, in its scope.
"""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction

# Any word of the question counts, by how few of the passages hold it: the IDF of BM25 (Robertson and Spärck Jones), in
# thousandths, since sums of integers are equal where sums of floats may not be. PostgreSQL's ts_rank knows no rarity,
# and must read the words of every passage that it ranks: it only orders those whose words weigh the same, where it
# prefers headings and repetitions. array_to_tsvector quotes a lexeme as a tsquery needs it.
# EXECUTE plans for the values given, so the planner knows that there are no near ones without a vector.
RANKED = """
    WITH near AS (
        SELECT id, row_number() OVER (ORDER BY distance, id) AS place FROM (
            SELECT e.chunk_id AS id, e.vector <=> $3 AS distance
            FROM public.knowledge_embedding e
            WHERE $3 IS NOT NULL AND e.tenant_id = %1$L AND e.index_id = $1 AND e.collection_id = ANY($2) AND e.live
            ORDER BY distance, e.chunk_id LIMIT $5
        ) nearest
    ), words AS (
        SELECT array_to_tsvector(ARRAY[lexeme])::text::tsquery AS word
        FROM unnest(to_tsvector('english', $4))
    ), deciding AS MATERIALIZED (
        SELECT word, holders, round(1000 * ln(1 + (
            (
                SELECT sum(passages) FROM public.knowledge_document d
                WHERE d.tenant_id = %1$L AND d.collection_id = ANY($2)
            ) - cardinality(holders) + 0.5::float8) / (cardinality(holders) + 0.5::float8)))::int AS weight
        FROM words CROSS JOIN LATERAL (
            SELECT array_agg(c.id) AS holders FROM public.knowledge_chunk c
            WHERE c.tenant_id = %1$L AND c.collection_id = ANY($2) AND c.live AND c.tsv @@ word
        ) held
        WHERE holders IS NOT NULL ORDER BY cardinality(holders), word LIMIT $6
    ), weighed AS (
        SELECT id, sum(weight) AS weight FROM deciding, unnest(holders) AS id
        GROUP BY id ORDER BY weight DESC FETCH FIRST ($5) ROWS WITH TIES
    ), worded AS (
        SELECT id, row_number() OVER (ORDER BY weight DESC, rank DESC, id) AS place FROM (
            SELECT id, weight, ts_rank(c.tsv, (SELECT string_agg(word::text, ' | ')::tsquery FROM deciding), 1) AS rank
            FROM weighed JOIN public.knowledge_chunk c USING (id) WHERE c.tenant_id = %1$L
        ) ranked
        ORDER BY place LIMIT $5
    )
    SELECT id, near.place, worded.place FROM near FULL JOIN worded USING (id)
"""


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0006_lookups")]

    operations = [
        DefinerFunction(
            "ranked_passages",
            "index uuid, collections uuid[], question_vector halfvec, question text, depth int, deciding int",
            "TABLE (id uuid, near bigint, worded bigint)",
            f"""
            BEGIN
                RETURN QUERY EXECUTE format($statement${RANKED}$statement$, current_setting('app.tenant')::uuid)
                    USING index, collections, question_vector, question, depth, deciding;
            END
            """,
            reads={
                "knowledge_embedding": ("tenant_id", "index_id", "collection_id", "live", "chunk_id", "vector"),
                "knowledge_document": ("tenant_id", "collection_id", "passages"),
                "knowledge_chunk": ("id", "tenant_id", "collection_id", "live", "tsv"),
            },
            language="plpgsql",
            attributes="STABLE ROWS 80",
        ),
    ]
