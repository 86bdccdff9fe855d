"""Whose a client or a token is: what is asked before a tenant is known."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction


class Migration(migrations.Migration):
    dependencies = [("oauth", "0001_initial"), ("tenants", "0004_lookups")]

    operations = [
        DefinerFunction(
            "oauth_client_of",
            "client text",
            "TABLE (tenant_id uuid, id uuid)",
            "SELECT a.tenant_id, a.id FROM public.oauth_application a WHERE a.client_id = client",
            reads={"oauth_application": ("tenant_id", "id", "client_id")},
        ),
        DefinerFunction(
            "oauth_token_of",
            "checksum text",
            "TABLE (tenant_id uuid, id uuid)",
            "SELECT t.tenant_id, t.id FROM public.oauth_accesstoken t WHERE t.token_checksum = checksum",
            reads={"oauth_accesstoken": ("tenant_id", "id", "token_checksum")},
        ),
    ]
