"""Adds closed days of the ledger up, and months of them, so that reports need not. Whatever is not rolled up is read
from the ledger, so this may run late, twice or never."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Sequence
from typing import Any

import structlog
from django.db import connection
from django.utils import timezone

from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope
from apps.usage import rollup_statements as sql

log = structlog.get_logger(__name__)

# A transaction that was open at midnight has ended by then. The triggers of migration 0007 count on more than one hour.
GRACE = dt.timedelta(hours=2)
AT_ONCE = 31  # days of one tenant, before the next one's turn
SECONDS = 240.0  # of one run; the next goes on
# A transaction takes as many days as it finishes in about so long: whoever changes old rows of the tenant waits for it.
SHORT = 0.25
FIRST_BATCH = 4


def roll_up(*, seconds: float = SECONDS, only: uuid.UUID | None = None) -> int:
    """Roll up what every tenant's ledger has of closed days, for about so long. Returns how many days that were."""
    ends_at = time.monotonic() + seconds
    waiting = [only] if only else lookups.all_tenants()
    rolled = 0
    while waiting:
        unfinished = []
        for tenant_id in waiting:
            days = open_days(tenant_id)
            rolled += _in_batches(tenant_id, days, ends_at)
            if time.monotonic() > ends_at:
                log.info("usage.rolled_up", days=rolled, finished=False)
                return rolled
            for month in open_months(tenant_id):
                rebuild_month(tenant_id, month)
            if len(days) == AT_ONCE:
                unfinished.append(tenant_id)
        waiting = unfinished
    if rolled:
        log.info("usage.rolled_up", days=rolled, finished=True)
    return rolled


def rebuild(tenant_id: uuid.UUID, first: dt.date, last: dt.date) -> int:
    """Roll these days up anew, the last included, and their months. Returns how many days of them are over and settled;
    the rest is read from the ledger."""
    days = [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]
    rolled = _in_batches(tenant_id, days, float("inf"))
    for month in open_months(tenant_id):
        rebuild_month(tenant_id, month)
    return rolled


def _in_batches(tenant_id: uuid.UUID, days: Sequence[dt.date], ends_at: float) -> int:
    size, rolled = FIRST_BATCH, 0
    while days and (began := time.monotonic()) <= ends_at:
        batch, days = days[:size], days[size:]
        rolled += rebuild_days(tenant_id, batch)
        size = min(2 * size, AT_ONCE) if time.monotonic() - began < SHORT else max(size // 2, 1)
    return rolled


def open_days(tenant_id: uuid.UUID) -> list[dt.date]:
    """Days of the tenant that are over, settled and not rolled up in its zone; the latest first, AT_ONCE at most."""
    with tenant_scope(tenant_id), connection.cursor() as cursor:
        cursor.execute(sql.OPEN_DAYS, _now() | {"tenant": tenant_id, "limit": AT_ONCE})
        return [day for (day,) in cursor.fetchall()]


def open_months(tenant_id: uuid.UUID) -> list[dt.date]:
    """The first days of months all of whose days are rolled up, while the month is not."""
    with tenant_scope(tenant_id), connection.cursor() as cursor:
        cursor.execute(sql.OPEN_MONTHS, {"tenant": tenant_id})
        return [month for (month,) in cursor.fetchall()]


def rebuild_days(tenant_id: uuid.UUID, days: Sequence[dt.date]) -> int:
    """Replace the roll-ups of these days, in a transaction of their own. Returns how many of them count as rolled up
    now."""
    given = _now() | {"tenant": tenant_id, "days": list(days)}
    given["months"] = list({day.replace(day=1) for day in days})
    with tenant_scope(tenant_id), connection.cursor() as cursor:
        # What follows sees every change that was committed before; later ones find the mark and take it away.
        cursor.execute(sql.LOCK, given)
        for statement in sql.FORGET_DAYS:
            cursor.execute(statement, given)
        cursor.execute(sql.CLOSED, given)
        closed = [day for (day,) in cursor.fetchall()]
        if closed:
            for statement in sql.ADD_UP_DAYS:
                cursor.execute(statement, given | {"days": closed})
    return len(closed)


def rebuild_month(tenant_id: uuid.UUID, month: dt.date) -> bool:
    """Replace the roll-ups of the month that begins that day by its days', in a transaction of its own. Whether the
    month counts as rolled up now."""
    given: dict[str, Any] = {
        "tenant": tenant_id,
        "month": month,
        "next": (month + dt.timedelta(days=31)).replace(day=1),
    }
    with tenant_scope(tenant_id), connection.cursor() as cursor:
        cursor.execute(sql.LOCK, given)
        for statement in sql.FORGET_MONTH:
            cursor.execute(statement, given)
        cursor.execute(sql.MARK_MONTH, given)
        if not cursor.rowcount:
            return False
        for statement in sql.ADD_UP_MONTH:
            cursor.execute(statement, given)
        return True


def _now() -> dict[str, Any]:
    return {"now": timezone.now(), "grace": GRACE}
