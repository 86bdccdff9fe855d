"""Which tenants' bills are open: what is asked outside every tenant's scope."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction


class Migration(migrations.Migration):
    dependencies = [("usage", "0003_embeddings")]

    operations = [
        DefinerFunction(
            "tenants_with_reserved",
            "before timestamptz",
            "TABLE (tenant_id uuid)",
            "SELECT DISTINCT tenant_id FROM public.usage_usagerecord WHERE state = 'reserved' AND created < before",
            reads={"usage_usagerecord": ("tenant_id", "state", "created")},
        ),
    ]
