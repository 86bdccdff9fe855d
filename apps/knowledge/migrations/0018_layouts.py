"""Layouts, and the function that finds the passages near a question by the layout of their embedding index."""

import uuid

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

from apps.tenants.row_security import DefinerFunction, Protect

# Tenant, index and dimension are literals, so that the plan is made for them. The two statements differ in how they
# write a vector: HNSW indexes are of `vector::halfvec(n)`, so that none can be used where each is to be compared.
_FOUND = """
    SELECT array_agg(id), array_agg(distance) FROM (
        SELECT e.chunk_id AS id, {distance} AS distance FROM public.knowledge_embedding e
        WHERE e.tenant_id = %1$L AND e.index_id = %2$L AND e.collection_id = ANY($2) AND e.live
            AND ($3 IS NULL OR e.chunk_id IN (
                SELECT c.id FROM public.knowledge_chunk c
                WHERE c.tenant_id = %1$L AND c.document_id = ANY($3) AND c.live
            ))
        ORDER BY {order} LIMIT $4
    ) nearest
"""
EXACT = _FOUND.format(distance="e.vector <=> $1", order="distance, e.chunk_id")
INDEXED = _FOUND.format(distance="e.vector::halfvec(%3$s) <=> $1::halfvec(%3$s)", order="distance")

# An HNSW index is used where enough passages are searched that comparing each would be slower, and only as long as it
# finds as many as asked for. Of one tenant among many PostgreSQL expects far too few rows, since it takes tenant and
# index for independent, and would rather sort them: without sorting only the index gives them in order. An iterative
# scan that ends early has met too few that pass the filter.
NEAR = f"""
    DECLARE
        tenant uuid := current_setting('app.tenant')::uuid;
        layout record;
        searched bigint := 0;
        ids uuid[];
        distances float8[];
    BEGIN
        IF question_vector IS NULL THEN
            RETURN;
        END IF;
        SELECT l.ef_search, l.exact_up_to, l.by_collection INTO layout
        FROM public.knowledge_layout l
        WHERE l.tenant_id = tenant AND l.index_id = near_passages.index AND l.state = 'indexed';
        IF FOUND AND depth <= 1000 THEN
            SELECT coalesce(sum((layout.by_collection ->> one::text)::bigint), 0) INTO searched
            FROM unnest(collections) AS one;
            IF cardinality(documents) <= layout.exact_up_to THEN
                SELECT least(searched, coalesce(sum(d.passages), 0)) INTO searched
                FROM public.knowledge_document d WHERE d.tenant_id = tenant AND d.id = ANY(documents);
            END IF;
        END IF;
        IF searched > layout.exact_up_to THEN
            PERFORM set_config('hnsw.ef_search', greatest(layout.ef_search, depth)::text, true),
                set_config('hnsw.iterative_scan', 'relaxed_order', true);
            IF documents IS NULL THEN
                PERFORM set_config('enable_sort', 'off', true);
            END IF;
            EXECUTE format($statement${INDEXED}$statement$, tenant, index, vector_dims(question_vector))
                INTO ids, distances USING question_vector, collections, documents, depth;
            PERFORM set_config('enable_sort', 'on', true);
        END IF;
        IF ids IS NULL OR cardinality(ids) < depth THEN
            EXECUTE format($statement${EXACT}$statement$, tenant, index)
                INTO ids, distances USING question_vector, collections, documents, depth;
        END IF;
        RETURN QUERY SELECT * FROM unnest(ids, distances);
    END
"""


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0017_clocks_that_are_fast"), ("tenants", "0005_row_level_security")]

    operations = [
        migrations.CreateModel(
            name="Layout",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "choice",
                    models.CharField(
                        choices=[("automatic", "Automatic"), ("exact", "Exact"), ("indexed", "Indexed")],
                        default="automatic",
                        max_length=10,
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("exact", "Exact"), ("building", "Building"), ("indexed", "Indexed")],
                        default="exact",
                        editable=False,
                        max_length=10,
                    ),
                ),
                (
                    "since",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="since"),
                ),
                ("reason", models.CharField(blank=True, editable=False, max_length=300)),
                ("passages", models.PositiveIntegerField(default=0, editable=False)),
                ("by_collection", models.JSONField(default=dict, editable=False)),
                ("exact_up_to", models.PositiveIntegerField(editable=False)),
                (
                    "ef_search",
                    models.PositiveSmallIntegerField(default=100, editable=False, verbose_name="ef"),
                ),
                ("wanted_since", models.DateTimeField(editable=False, null=True)),
                ("not_before", models.DateTimeField(editable=False, null=True)),
                ("recall_at_10", models.FloatField(editable=False, null=True, verbose_name="recall@10")),
                ("measured_with", models.PositiveSmallIntegerField(default=0, editable=False)),
                ("measured_at", models.DateTimeField(editable=False, null=True)),
                (
                    "index",
                    models.OneToOneField(
                        editable=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="layout",
                        to="knowledge.embeddingindex",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.tenant"
                    ),
                ),
            ],
            options={"ordering": ("-passages", "pk")},
        ),
        migrations.AddIndex(
            model_name="layout", index=models.Index(fields=["-passages", "id"], name="layout_largest")
        ),
        migrations.AddIndex(
            model_name="layout",
            index=models.Index(
                fields=["tenant"], condition=models.Q(("state", "exact"), _negated=True), name="layout_indexed"
            ),
        ),
        Protect("knowledge", "Layout"),
        DefinerFunction(
            "near_passages",
            "index uuid, collections uuid[], question_vector halfvec, documents uuid[], depth int",
            "TABLE (id uuid, distance float8)",
            NEAR,
            reads={
                "knowledge_layout": ("tenant_id", "index_id", "state", "ef_search", "exact_up_to", "by_collection"),
                "knowledge_embedding": ("tenant_id", "index_id", "collection_id", "live", "chunk_id", "vector"),
                "knowledge_document": ("id", "tenant_id", "passages"),
                "knowledge_chunk": ("id", "tenant_id", "document_id", "live"),
            },
            language="plpgsql",
            attributes="STABLE ROWS 40",
        ),
        DefinerFunction(
            "tenants_with_indexed_layouts",
            "",
            "TABLE (tenant_id uuid)",
            "SELECT DISTINCT tenant_id FROM public.knowledge_layout WHERE state = 'indexed'",
            reads={"knowledge_layout": ("tenant_id", "state")},
        ),
        DefinerFunction(
            "recall_of_layouts",
            "",
            "TABLE (lowest float8, mean float8)",
            "SELECT min(recall_at_10), avg(recall_at_10) FROM public.knowledge_layout WHERE state = 'indexed'",
            reads={"knowledge_layout": ("state", "recall_at_10")},
        ),
    ]
