"""Writes the ledger: a row when a turn is admitted, its bill exactly once when it ends; embeddings when answered."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from apps.tenants import lookups
from apps.tenants.models import EndUser, Tenant
from apps.tenants.pool import Connection
from apps.tenants.scoping import tenant_scope
from apps.tenants.statements import insert
from apps.usage.models import UsageRecord
from chatbot.events import Usage


async def reserve(
    connection: Connection,
    tenant: Tenant,
    *,
    turn_id: uuid.UUID,
    end_user: EndUser,
    api_key_id: uuid.UUID | None,
    assistant_id: uuid.UUID,
) -> None:
    """Enter an admitted turn, in the transaction that writes the turn."""
    row = UsageRecord(
        tenant=tenant, turn_id=turn_id, end_user=end_user, api_key_id=api_key_id, assistant_id=assistant_id
    )
    await insert(connection, row)


def settle(tenant: Tenant, *, turn_id: uuid.UUID, bill: str, usage: Usage, endpoint_id: uuid.UUID | None) -> bool:
    """Settle a turn's row; only the first call does, the rest return False. Losses and refusals bill zero tokens."""
    charged = bill in {UsageRecord.Bill.ONCE, UsageRecord.Bill.DELIVERED}
    return bool(
        UsageRecord.objects.for_tenant(tenant)
        .filter(turn_id=turn_id, state=UsageRecord.State.RESERVED)
        .update(
            state=UsageRecord.State.SETTLED,
            bill=bill,
            prompt_tokens=usage.prompt_tokens if charged else 0,
            completion_tokens=usage.completion_tokens if charged else 0,
            estimated=usage.estimated if charged else False,
            endpoint_id=endpoint_id,
            settled_at=timezone.now(),
        )
    )


def enter_embeddings(
    tenant: Tenant, *, end_user: EndUser | None, api_key_id: uuid.UUID | None, endpoint_id: uuid.UUID, usage: Usage
) -> None:
    """Enter a call for embeddings that was answered; one that was not costs nothing and leaves no row."""
    UsageRecord.objects.create(
        tenant=tenant,
        end_user=end_user,
        api_key_id=api_key_id,
        endpoint_id=endpoint_id,
        state=UsageRecord.State.SETTLED,
        bill=UsageRecord.Bill.ONCE,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        estimated=usage.estimated,
        settled_at=timezone.now(),
    )


def settle_abandoned(before: dt.datetime, open_turns: Callable[[uuid.UUID], QuerySet[Any]]) -> int:
    """Settle what was reserved before then as a loss, unless its turn is among the tenant's `open_turns` (their ids).
    Returns how many."""
    settled = 0
    for (tenant_id,) in lookups.call("tenants_with_reserved", before):
        with tenant_scope(tenant_id):
            rows = UsageRecord.objects.for_tenant(tenant_id)
            abandoned = rows.filter(state=UsageRecord.State.RESERVED, created__lt=before)
            settled += abandoned.exclude(turn_id__in=open_turns(tenant_id)).update(
                state=UsageRecord.State.SETTLED, bill=UsageRecord.Bill.LOSS, settled_at=timezone.now()
            )
    return settled
