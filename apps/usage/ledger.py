"""Writes the ledger: a row when a turn is admitted, its bill exactly once when it ends; embeddings when answered."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.db.models import ExpressionWrapper, F, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from apps.inference.models import Endpoint
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
    oauth_client_id: uuid.UUID | None,
    assistant_id: uuid.UUID,
    created: dt.datetime,
) -> None:
    """Enter an admitted turn, in the transaction that writes the turn, dated as the turn is."""
    row = UsageRecord(
        tenant=tenant,
        turn_id=turn_id,
        end_user=end_user,
        api_key_id=api_key_id,
        oauth_client_id=oauth_client_id,
        assistant_id=assistant_id,
        created=created,
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
            reserved_tokens=0,
            reserved_cost=0,
            **_priced(endpoint_id, usage if charged else Usage(0, 0)),
        )
    )


def _priced(endpoint_id: uuid.UUID | None, usage: Usage) -> dict[str, Any]:
    """The model's name, and what these tokens cost at the endpoint's prices as they are now."""
    if endpoint_id is None:
        return {}
    endpoint = Endpoint.objects.filter(pk=endpoint_id)
    money = F("prompt_price") * usage.prompt_tokens + F("completion_price") * usage.completion_tokens
    cost = endpoint.annotate(cost=ExpressionWrapper(money / 1_000_000, UsageRecord._meta.get_field("cost")))
    return {
        "model": Coalesce(Subquery(endpoint.values("model")), Value("")),
        "cost": Coalesce(Subquery(cost.values("cost")), Value(Decimal(0))),
    }


def enter_embeddings(
    tenant: Tenant,
    *,
    end_user: EndUser | None,
    api_key_id: uuid.UUID | None,
    oauth_client_id: uuid.UUID | None,
    endpoint_id: uuid.UUID,
    usage: Usage,
) -> None:
    """Enter a call for embeddings that was answered; one that was not costs nothing and leaves no row."""
    UsageRecord.objects.create(
        tenant=tenant,
        kind=UsageRecord.Kind.EMBEDDINGS,
        end_user=end_user,
        api_key_id=api_key_id,
        oauth_client_id=oauth_client_id,
        endpoint_id=endpoint_id,
        state=UsageRecord.State.SETTLED,
        bill=UsageRecord.Bill.ONCE,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        estimated=usage.estimated,
        settled_at=timezone.now(),
        **_priced(endpoint_id, usage),
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
                state=UsageRecord.State.SETTLED,
                bill=UsageRecord.Bill.LOSS,
                settled_at=timezone.now(),
                reserved_tokens=0,
                reserved_cost=0,
            )
    return settled
