"""Tells a tenant's webhooks that a turn has ended, by ids and states: what was said is fetched with a key."""

from __future__ import annotations

import uuid
from functools import partial

from apps.conversations.models import Turn
from apps.tenants.models import Tenant
from apps.webhooks.deliveries import Happened, announce
from apps.webhooks.models import Event


def turn_finished(tenant: Tenant, turn_id: uuid.UUID) -> None:
    """Call it in the transaction that closes the turn, however it ended."""
    announce(tenant.pk, Event.TURN_FINISHED, partial(_finished, tenant, turn_id))


def _finished(tenant: Tenant, turn_id: uuid.UUID) -> Happened:
    turn = Turn.objects.for_tenant(tenant).select_related("assistant", "end_user").defer("sources").get(pk=turn_id)
    return Happened(
        turn.assistant_id,
        {
            "turn": str(turn.pk),
            "conversation": str(turn.conversation_id) if turn.conversation_id else None,
            "assistant": turn.assistant.slug,
            "user": turn.end_user.external_id,
            "client_id": turn.client_id,
            "state": turn.state,
            "finish_reason": turn.finish_reason,
            "error": turn.error_code or None,
            "usage": {
                "prompt_tokens": turn.prompt_tokens,
                "completion_tokens": turn.completion_tokens,
                "total_tokens": turn.prompt_tokens + turn.completion_tokens,
                "estimated": turn.usage_estimated,
            },
        },
    )
