"""Which tenants' documents are due: what is asked outside every tenant's scope."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0005_addresses")]

    operations = [
        DefinerFunction(
            "tenants_with_due_documents",
            "moment timestamptz",
            "TABLE (tenant_id uuid)",
            """
            SELECT DISTINCT tenant_id FROM public.knowledge_document
            WHERE status NOT IN ('ready', 'failed') AND (lease_until IS NULL OR lease_until < moment)
              AND next_attempt_at <= moment
            """,
            reads={"knowledge_document": ("tenant_id", "status", "lease_until", "next_attempt_at")},
        ),
    ]
