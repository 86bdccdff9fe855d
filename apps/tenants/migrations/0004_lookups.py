"""Whose a credential, a slug or a membership is: what is asked before a tenant is known (lookups.py)."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction

FOUND = "TABLE (tenant_id uuid, id uuid)"


class Migration(migrations.Migration):
    dependencies = [("tenants", "0003_audit")]

    operations = [
        DefinerFunction(
            "key_of",
            "public_id text",
            "TABLE (tenant_id uuid, id uuid, digest bytea)",
            "SELECT tenant_id, id, digest FROM public.tenants_apikey WHERE key_id = public_id",
            reads={"tenants_apikey": ("tenant_id", "id", "digest", "key_id")},
        ),
        DefinerFunction(
            "keys_of",
            "one uuid",
            FOUND,
            "SELECT tenant_id, id FROM public.tenants_apikey WHERE member_id = one OR created_by_id = one",
            reads={"tenants_apikey": ("member_id", "created_by_id")},
        ),
        DefinerFunction(
            "invitation_of",
            "of_link bytea",
            FOUND,
            "SELECT tenant_id, id FROM public.tenants_invitation WHERE digest = of_link",
            reads={"tenants_invitation": ("tenant_id", "id", "digest")},
        ),
        DefinerFunction(
            "memberships_of",
            "one uuid",
            FOUND,
            "SELECT tenant_id, id FROM public.tenants_membership WHERE user_id = one ORDER BY created, id",
            reads={"tenants_membership": ("tenant_id", "id", "user_id", "created")},
        ),
        DefinerFunction(
            "tenant_named",
            "short_name text",
            "TABLE (tenant_id uuid)",
            "SELECT id FROM public.tenants_tenant WHERE slug = short_name",
            reads={"tenants_tenant": ("id", "slug")},
        ),
        DefinerFunction(
            "all_tenants",
            "",
            "TABLE (tenant_id uuid)",
            "SELECT id FROM public.tenants_tenant ORDER BY created, id",
            reads={"tenants_tenant": ("created",)},
        ),
        DefinerFunction(
            "audit_chains",
            "",
            "TABLE (tenant_id uuid)",
            "SELECT chain FROM public.tenants_audithead ORDER BY chain",
            reads={"tenants_audithead": ("chain",)},
        ),
    ]
