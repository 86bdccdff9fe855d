"""Meters what documents use on their way to being searchable: pages that are read, tokens that are embedded.

The ledger counts, and nothing else: a step takes from the windows and enters its row in one transaction, one step of a
tenant at a time where a limit holds. So there is no counter that could differ, and Redis may come and go.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from apps.inference.models import Endpoint
from apps.tenants.models import Tenant
from apps.usage import ledger, limits, metrics
from apps.usage.models import UsageRecord
from apps.usage.refusals import words
from chatbot.events import Usage
from chatbot.quota import INGESTED, Account, Limit, Metric, bounds

_LOCK = "SELECT pg_advisory_xact_lock(1431519561, hashtext(%s))"
# After the lock, which may have been waited for; one clock for all workers.
_NOW = "SELECT clock_timestamp()"
_USED = """
    SELECT coalesce(sum(pages), 0), coalesce(sum(prompt_tokens + reserved_tokens), 0)
    FROM usage_usagerecord
    WHERE tenant_id = %s AND kind = 'ingestion' AND created >= %s AND created < %s
        AND (state = 'reserved' OR bill IN ('once', 'delivered'))
"""
_COLUMN = {"pages": 0, "ingestion": 1}


@dataclass(frozen=True, slots=True)
class Room:
    """What a limit leaves in the window that ends then."""

    limit: Limit
    left: int
    until: dt.datetime


class QuotaUsedUp(Exception):
    """until: when the needed amount is free again; None where it is more than the limit ever allows."""

    code = "quota_exceeded"

    def __init__(self, tenant: Tenant, rooms: Sequence[Room], need: int) -> None:
        longest = max(rooms, key=lambda room: (need > room.limit.amount, room.until))
        limit, self.need = longest.limit, need
        self.metric = limit.metric
        self.until = None if need > limit.amount else longest.until
        local = longest.until.astimezone(ZoneInfo(tenant.time_zone))
        unit = "pages" if limit.metric == "pages" else "tokens"
        if self.until is None:
            said = f"{words(limit)} This needs {need:,} {unit} at once. Split it, or have the limit raised, and retry."
        else:
            said = f"Waits for the quota of {unit} to be free at {local:%H:%M on %-d %B %Y} ({tenant.time_zone}). "
            said += words(limit)
        super().__init__(said)


def rooms(tenant: Tenant, metric: Metric) -> list[Room]:
    """What the tenant's limits of this metric leave right now, those that refuse. Call it in the tenant's scope."""
    held = _held(tenant, metric)
    return _rooms(tenant, held, _clock()) if held else []


def refuse_beyond(tenant: Tenant, metric: Metric, need: int) -> None:
    """Raises QuotaUsedUp where so much is not free. Nothing is taken: it may be gone when it is asked for."""
    _refuse(tenant, rooms(tenant, metric), need)


def charge_pages(tenant: Tenant, document_id: uuid.UUID, pages: int) -> None:
    """Bill pages that were read, in the transaction that keeps what was read. Raises QuotaUsedUp."""
    now, free = _taken_in_turn(tenant, "pages")
    _refuse(tenant, free, pages)
    UsageRecord.objects.create(
        tenant=tenant,
        kind=UsageRecord.Kind.INGESTION,
        document_id=document_id,
        pages=pages,
        state=UsageRecord.State.SETTLED,
        bill=UsageRecord.Bill.ONCE,
        created=now,
        settled_at=now,
    )


def reserve_tokens(
    tenant: Tenant, document_id: uuid.UUID, tokens: Sequence[int], endpoint: Endpoint
) -> tuple[uuid.UUID, int]:
    """Reserve for as many of these texts as fit, the first ones; the reservation, and how many they are. document_id:
    or a second index's, which is built of texts of many documents.

    Raises QuotaUsedUp where not even the first fits.
    """
    now, free = _taken_in_turn(tenant, "ingestion")
    _refuse(tenant, free, tokens[0])
    left = min((room.left for room in free), default=None)
    fit, asked = 0, 0
    for each in tokens:
        if left is not None and asked + each > left:
            break
        fit, asked = fit + 1, asked + each
    row = UsageRecord.objects.create(
        tenant=tenant,
        kind=UsageRecord.Kind.INGESTION,
        document_id=document_id,
        endpoint=endpoint,
        reserved_tokens=asked,
        reserved_cost=endpoint.prompt_price * asked / Decimal(1_000_000),
        created=now,
    )
    return row.pk, fit


def settle_tokens(tenant: Tenant, reservation: uuid.UUID, tokens: int, endpoint: Endpoint) -> None:
    """Bill the tokens, in the transaction that keeps the vectors; the lease that guards it lets only one worker do so.

    A reservation that took so long that it was given up for lost is billed all the same.
    """
    lost = _rows(tenant).filter(pk=reservation, bill=UsageRecord.Bill.LOSS)
    lost.update(state=UsageRecord.State.RESERVED, bill="", settled_at=None)
    ledger.settle_embeddings(
        tenant,
        reservation,
        bill=UsageRecord.Bill.ONCE,
        usage=Usage(tokens, 0, estimated=True),  # not every server counts
        endpoint_id=endpoint.pk,
    )


def give_back(tenant: Tenant, /, **of: uuid.UUID | list[uuid.UUID]) -> None:
    """Reservations (`pk`) that came to nothing, or those of a document (`document_id`) whose worker died, are a loss
    and count for nothing."""
    _rows(tenant).filter(state=UsageRecord.State.RESERVED, **of).update(
        state=UsageRecord.State.SETTLED,
        bill=UsageRecord.Bill.LOSS,
        reserved_tokens=0,
        reserved_cost=0,
        settled_at=timezone.now(),
    )


def _rows(tenant: Tenant) -> QuerySet[UsageRecord]:
    rows: QuerySet[UsageRecord] = UsageRecord.objects.for_tenant(tenant)
    return rows.filter(kind=UsageRecord.Kind.INGESTION)


def _held(tenant: Tenant, metric: Metric) -> list[Limit]:
    found = limits.read(tenant).of([(Account("tenant"), "")], INGESTED)
    return [limit for limit in found if limit.hard and limit.metric == metric]


def _taken_in_turn(tenant: Tenant, metric: Metric) -> tuple[dt.datetime, list[Room]]:
    """The moment, and what is free then; until this transaction ends nobody else takes any of it."""
    held = _held(tenant, metric)
    if held:
        with connection.cursor() as cursor:
            cursor.execute(_LOCK, [str(tenant.pk)])
    now = _clock()
    return now, _rooms(tenant, held, now)


def _rooms(tenant: Tenant, held: Sequence[Limit], now: dt.datetime) -> list[Room]:
    found = []
    for limit in held:
        begin, end = bounds(limit.window, now, ZoneInfo(tenant.time_zone))
        found.append(Room(limit, limit.amount - used(tenant, limit.metric, begin, end), end))
    return found


def used(tenant: Tenant, metric: Metric, begin: dt.datetime, end: dt.datetime) -> int:
    """What was used, and what is reserved, by the ledger."""
    with connection.cursor() as cursor:
        cursor.execute(_USED, [tenant.pk, begin, end])
        row: Any = cursor.fetchone()
    return int(row[_COLUMN[metric]])


def _clock() -> dt.datetime:
    with connection.cursor() as cursor:
        cursor.execute(_NOW)
        row: Any = cursor.fetchone()
    now: dt.datetime = row[0]
    return now


def _refuse(tenant: Tenant, free: Sequence[Room], need: int) -> None:
    if short := [room for room in free if need > room.left]:
        metrics.refused(tenant, short[0].limit)
        raise QuotaUsedUp(tenant, short, need)
