"""Writes the ledger: a row when a turn is admitted, its bill exactly once when it ends; embeddings when answered."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from apps.tenants import lookups
from apps.tenants.models import EndUser, Tenant
from apps.tenants.pool import Connection
from apps.tenants.scoping import tenant_scope
from apps.tenants.statements import insert
from apps.usage.models import UsageRecord
from chatbot.events import Usage
from chatbot.quota import COST_UNITS, Amounts, cost_units

CHARGED = {UsageRecord.Bill.ONCE, UsageRecord.Bill.DELIVERED}


async def reserve(
    within: Connection,
    tenant: Tenant,
    *,
    turn_id: uuid.UUID,
    end_user: EndUser,
    api_key_id: uuid.UUID | None,
    oauth_client_id: uuid.UUID | None,
    assistant_id: uuid.UUID,
    amounts: Amounts,
    created: dt.datetime,
) -> None:
    """Enter an admitted turn, in the transaction that writes the turn, with what was reserved for it, and when."""
    row = UsageRecord(
        tenant=tenant,
        turn_id=turn_id,
        end_user=end_user,
        api_key_id=api_key_id,
        oauth_client_id=oauth_client_id,
        assistant_id=assistant_id,
        reserved_tokens=amounts.tokens,
        reserved_cost=Decimal(amounts.cost) / COST_UNITS,
        created=created,
    )
    await insert(within, row)


_SETTLE = """
    UPDATE usage_usagerecord SET state = 'settled', bill = %(bill)s, prompt_tokens = %(prompt)s,
        completion_tokens = %(completion)s, estimated = %(estimated)s, endpoint_id = %(endpoint)s, settled_at = now(),
        reserved_tokens = 0, reserved_cost = 0,
        model = coalesce((SELECT model FROM inference_endpoint WHERE id = %(endpoint)s), ''),
        cost = coalesce((
            SELECT (prompt_price * %(prompt)s + completion_price * %(completion)s) / 1000000
            FROM inference_endpoint WHERE id = %(endpoint)s
        ), 0)
    WHERE tenant_id = %(tenant)s AND {0} = %(id)s AND state = 'reserved'
    RETURNING cost
"""


def settle(
    tenant: Tenant, *, turn_id: uuid.UUID, bill: str, usage: Usage, endpoint_id: uuid.UUID | None
) -> Amounts | None:
    """Settle a turn's row at the endpoint's prices as they are now; what it counts for. Only the first call does, the
    rest return None. Losses and refusals bill nothing."""
    return _settle(tenant, "turn_id", turn_id, bill=bill, usage=usage, endpoint_id=endpoint_id)


def _settle(
    tenant: Tenant, column: str, pk: uuid.UUID, *, bill: str, usage: Usage, endpoint_id: uuid.UUID | None
) -> Amounts | None:
    charged = bill in CHARGED
    said: dict[str, Any] = {
        "tenant": tenant.pk,
        "id": pk,
        "bill": bill,
        "prompt": usage.prompt_tokens if charged else 0,
        "completion": usage.completion_tokens if charged else 0,
        "estimated": usage.estimated and charged,
        "endpoint": endpoint_id,
    }
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE.format(column), said)
        row = cursor.fetchone()
    if row is None:
        return None
    return Amounts(1, usage.total_tokens, cost_units(row[0])) if charged else Amounts()


def used_by(record: UsageRecord) -> Amounts:
    """What a settled row counts for: what was not billed counts for nothing."""
    if record.bill not in CHARGED:
        return Amounts()
    tokens = record.prompt_tokens + record.completion_tokens
    return Amounts(requests=1, tokens=tokens, cost=cost_units(record.cost))


def reserve_embeddings(
    tenant: Tenant,
    *,
    reservation: uuid.UUID,
    end_user: EndUser | None,
    api_key_id: uuid.UUID | None,
    oauth_client_id: uuid.UUID | None,
    amounts: Amounts,
    created: dt.datetime | None,
) -> None:
    """Enter a call for embeddings, before it is answered."""
    UsageRecord.objects.create(
        id=reservation,
        tenant=tenant,
        kind=UsageRecord.Kind.EMBEDDINGS,
        end_user=end_user,
        api_key_id=api_key_id,
        oauth_client_id=oauth_client_id,
        reserved_tokens=amounts.tokens,
        reserved_cost=Decimal(amounts.cost) / COST_UNITS,
        created=created or timezone.now(),
    )


def settle_embeddings(
    tenant: Tenant, reservation: uuid.UUID, *, bill: str, usage: Usage, endpoint_id: uuid.UUID
) -> Amounts | None:
    """The same as settle()."""
    return _settle(tenant, "id", reservation, bill=bill, usage=usage, endpoint_id=endpoint_id)


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
