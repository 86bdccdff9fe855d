"""Which webhooks have something to deliver: what is asked outside every tenant's scope."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction


class Migration(migrations.Migration):
    dependencies = [("tenants", "0004_lookups"), ("webhooks", "0001_initial")]

    operations = [
        # A look at the head of each webhook's queue, so that the length of none counts.
        DefinerFunction(
            "webhooks_waiting",
            "moment timestamptz, most int",
            "TABLE (tenant_id uuid, id uuid)",
            """
            SELECT w.tenant_id, w.id FROM public.webhooks_webhook w
            JOIN public.tenants_tenant t ON t.id = w.tenant_id AND t.is_active
            CROSS JOIN LATERAL (
                SELECT d.next_attempt_at AS head FROM public.webhooks_delivery d
                WHERE d.webhook_id = w.id AND d.status = 'pending' AND d.next_attempt_at <= moment
                ORDER BY d.next_attempt_at LIMIT 1
            ) due
            WHERE w.enabled ORDER BY due.head LIMIT most
            """,
            reads={
                "tenants_tenant": ("id", "is_active"),
                "webhooks_webhook": ("tenant_id", "id", "enabled"),
                "webhooks_delivery": ("webhook_id", "status", "next_attempt_at"),
            },
        ),
    ]
