"""Whose an open turn is, or what a frame of the playground names: what is asked outside every tenant's scope."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction


class Migration(migrations.Migration):
    dependencies = [("assistants", "0001_initial"), ("conversations", "0004_feedback")]

    operations = [
        DefinerFunction(
            "turns_open_since",
            "before timestamptz",
            "TABLE (tenant_id uuid, id uuid)",
            """
            SELECT tenant_id, id FROM public.conversations_turn
            WHERE state IN ('queued', 'running') AND created < before ORDER BY created LIMIT 1000
            """,
            reads={"conversations_turn": ("tenant_id", "id", "state", "created")},
        ),
        # A frame of the admin's playground names a conversation, a turn or an assistant, and no tenant.
        DefinerFunction(
            "owners_of",
            "named uuid[]",
            "TABLE (tenant_id uuid)",
            """
            SELECT tenant_id FROM public.conversations_turn WHERE id = ANY (named)
            UNION SELECT tenant_id FROM public.conversations_conversation WHERE id = ANY (named)
            UNION SELECT tenant_id FROM public.assistants_assistant WHERE id = ANY (named)
            """,
            reads={
                "conversations_turn": ("tenant_id", "id"),
                "conversations_conversation": ("tenant_id", "id"),
                "assistants_assistant": ("tenant_id", "id"),
            },
        ),
    ]
