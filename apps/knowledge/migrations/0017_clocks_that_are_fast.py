"""Documents that a process with a fast clock has queued are due, too: see models.MOST_AHEAD."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0016_sources")]

    operations = [
        DefinerFunction(
            "tenants_with_due_documents",
            "moment timestamptz",
            "TABLE (tenant_id uuid)",
            """
            SELECT DISTINCT tenant_id FROM public.knowledge_document
            WHERE status NOT IN ('ready', 'failed') AND (lease_until IS NULL OR lease_until < moment)
              AND (next_attempt_at <= moment OR status = 'queued' AND next_attempt_at > moment + interval '2 minutes')
            """,
            reads={"knowledge_document": ("tenant_id", "status", "lease_until", "next_attempt_at")},
        ),
    ]
