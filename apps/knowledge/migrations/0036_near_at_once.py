"""near_passages looks once where nothing is filtered: an iterative scan keeps all that it passes, which takes time.

What is asked for a layout comes with it, and who filters nothing has no filter planned: a twentieth of a millisecond.
"""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction

# As in 0018_layouts.py, which says why, but for `scans` and `narrowed`. A scan that looks once gives fewer than are asked
# for where many of the nearest were deleted and VACUUM has not come by yet; then it is repeated, iteratively.
_FOUND = """
    SELECT array_agg(id), array_agg(distance) FROM (
        SELECT e.chunk_id AS id, {distance} AS distance FROM public.knowledge_embedding e
        WHERE e.tenant_id = %1$L AND e.index_id = %2$L AND e.collection_id = ANY($2) AND e.live %4$s
        ORDER BY {order} LIMIT $4
    ) nearest
"""
_OF_DOCUMENTS = """
    AND e.chunk_id IN (
        SELECT c.id FROM public.knowledge_chunk c WHERE c.tenant_id = %L AND c.document_id = ANY($3) AND c.live
    )
"""
EXACT = _FOUND.format(distance="e.vector <=> $1", order="distance, e.chunk_id")
INDEXED = _FOUND.format(distance="e.vector::halfvec(%3$s) <=> $1::halfvec(%3$s)", order="distance")
NEAR = f"""
    DECLARE
        tenant uuid := current_setting('app.tenant')::uuid;
        layout record;
        searched bigint := 0;
        narrowed text := CASE WHEN documents IS NULL THEN '' ELSE format($filter${_OF_DOCUMENTS}$filter$, tenant) END;
        scans text[];
        scan text;
        ids uuid[];
        distances float8[];
    BEGIN
        IF question_vector IS NULL THEN
            RETURN;
        END IF;
        SELECT l.ef_search, l.exact_up_to, l.passages, (
            SELECT coalesce(sum((l.by_collection ->> one::text)::bigint), 0) FROM unnest(collections) AS one
        ) AS searched INTO layout
        FROM public.knowledge_layout l
        WHERE l.tenant_id = tenant AND l.index_id = near_passages.index AND l.state = 'indexed';
        IF FOUND AND depth <= 1000 THEN
            searched := layout.searched;
            IF cardinality(documents) <= layout.exact_up_to THEN
                SELECT least(searched, coalesce(sum(d.passages), 0)) INTO searched
                FROM public.knowledge_document d WHERE d.tenant_id = tenant AND d.id = ANY(documents);
            END IF;
        END IF;
        IF searched > layout.exact_up_to THEN
            scans := CASE WHEN documents IS NULL AND searched >= layout.passages
                THEN ARRAY['off', 'relaxed_order'] ELSE ARRAY['relaxed_order'] END;
            PERFORM set_config('hnsw.ef_search', greatest(layout.ef_search, depth)::text, true);
            IF documents IS NULL THEN
                PERFORM set_config('enable_sort', 'off', true);
            END IF;
            FOREACH scan IN ARRAY scans LOOP
                EXIT WHEN cardinality(ids) >= depth;
                PERFORM set_config('hnsw.iterative_scan', scan, true);
                EXECUTE format($statement${INDEXED}$statement$, tenant, index, vector_dims(question_vector), narrowed)
                    INTO ids, distances USING question_vector, collections, documents, depth;
            END LOOP;
            PERFORM set_config('enable_sort', 'on', true);
        END IF;
        IF ids IS NULL OR cardinality(ids) < depth THEN
            EXECUTE format($statement${EXACT}$statement$, tenant, index, 0, narrowed)
                INTO ids, distances USING question_vector, collections, documents, depth;
        END IF;
        RETURN QUERY SELECT * FROM unnest(ids, distances);
    END
"""


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0035_ready_by_vectors")]

    operations = [
        DefinerFunction(
            "near_passages",
            "index uuid, collections uuid[], question_vector halfvec, documents uuid[], depth int",
            "TABLE (id uuid, distance float8)",
            NEAR,
            reads={
                "knowledge_layout": (
                    *("tenant_id", "index_id", "state", "ef_search", "exact_up_to", "passages", "by_collection"),
                ),
                "knowledge_embedding": ("tenant_id", "index_id", "collection_id", "live", "chunk_id", "vector"),
                "knowledge_document": ("id", "tenant_id", "passages"),
                "knowledge_chunk": ("id", "tenant_id", "document_id", "live"),
            },
            language="plpgsql",
            attributes="STABLE ROWS 40",
        ),
    ]
