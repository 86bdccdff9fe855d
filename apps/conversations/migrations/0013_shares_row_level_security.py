"""Shares and mergings are shown in their tenant's scope alone; whose a link is, is asked before a tenant is known."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction, Protect


class Migration(migrations.Migration):
    dependencies = [("conversations", "0012_shares")]

    operations = [
        Protect("conversations", "Share"),
        Protect("conversations", "Merging"),
        DefinerFunction(
            "share_of",
            "wanted bytea",
            "TABLE (tenant_id uuid, id uuid)",
            "SELECT tenant_id, id FROM public.conversations_share WHERE digest = wanted",
            reads={"conversations_share": ("tenant_id", "id", "digest")},
        ),
    ]
