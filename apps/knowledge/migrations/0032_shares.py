"""Who stands in line for a worker and has none, and how many stand there with which weight. The index of those that
workers are at is built while they are."""

from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

from apps.tenants.row_security import DefinerFunction


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("knowledge", "0028_uploads"), ("usage", "0014_shares")]

    operations = [
        # One whose building was cut short is there and good for nothing.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS document_held", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name='document',
            index=models.Index(condition=models.Q(('lease_until__isnull', False)), fields=['tenant', 'lease_until'], name='document_held'),
        ),
        DefinerFunction(
            "tenants_without_a_worker",
            "moment timestamptz",
            "TABLE (tenant_id uuid, large boolean)",
            """
            SELECT DISTINCT d.tenant_id, d.size > 4194304 FROM public.knowledge_document d
            WHERE d.status = 'queued' AND (d.lease_until IS NULL OR d.lease_until < moment)
              AND d.next_attempt_at > moment AND d.next_attempt_at <= moment + interval '2 minutes'
              AND NOT EXISTS (
                SELECT FROM public.knowledge_document held
                WHERE held.tenant_id = d.tenant_id AND (held.size > 4194304) = (d.size > 4194304)
                  AND held.status NOT IN ('ready', 'failed') AND held.lease_until >= moment
              )
            """,
            reads={"knowledge_document": ("tenant_id", "status", "size", "lease_until", "next_attempt_at")},
        ),
        # queued_documents, which knows no weights, is still called by the release before.
        DefinerFunction(
            "documents_in_line",
            "moment timestamptz",
            "TABLE (tenant_id uuid, large boolean, documents bigint, weight integer)",
            """
            SELECT line.*, coalesce(own.weight, other.weight, 1)
            FROM (
                SELECT tenant_id, size > 4194304, count(*) FROM public.knowledge_document
                WHERE status = 'queued' AND (lease_until IS NULL OR lease_until < moment)
                GROUP BY 1, 2
            ) line
            LEFT JOIN public.usage_tenantplan chosen ON chosen.tenant_id = line.tenant_id
            LEFT JOIN public.usage_plan own ON own.id = chosen.plan_id
            LEFT JOIN public.usage_plan other ON other.is_default
            """,
            reads={
                "knowledge_document": ("tenant_id", "status", "size", "lease_until"),
                "usage_tenantplan": ("tenant_id", "plan_id"),
                "usage_plan": ("id", "weight", "is_default"),
            },
        ),
    ]
