"""Adds closed days of the ledger up, so that reports need not. Whatever is not rolled up is read from the ledger, so
this may run late, twice or never."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from typing import Any

import structlog
from django.db import connection
from django.utils import timezone

from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope

log = structlog.get_logger(__name__)

# A transaction that was open at midnight has ended by then. The triggers of migration 0007 count on more than one hour.
GRACE = dt.timedelta(hours=2)
AT_ONCE = 31  # days of one tenant, before the next one's turn
SECONDS = 240.0  # of one run; the next goes on

_LOCK = "SELECT pg_advisory_xact_lock(1431519559, hashtext(%(tenant)s::text))"
# The latest first: they are asked for most. A day with a turn that is not settled waits for it. When days begin is
# reckoned by itself: no condition with a function in it reaches the ledger's index through row-level security.
_OPEN_DAYS = """
    WITH d AS MATERIALIZED (
        SELECT first.day + n AS day, usage_day_start(first.day + n, t.time_zone) AS starts,
            usage_day_start(first.day + n + 1, t.time_zone) AS ends
        FROM tenants_tenant t
        CROSS JOIN LATERAL (
            SELECT (min(created) AT TIME ZONE t.time_zone)::date AS day FROM usage_usagerecord WHERE tenant_id = t.id
        ) first
        CROSS JOIN generate_series(0, (%(now)s AT TIME ZONE t.time_zone)::date - first.day) AS n
        LEFT JOIN usage_rolledday r ON r.tenant_id = t.id AND r.day = first.day + n AND r.zone = t.time_zone
        WHERE t.id = %(tenant)s AND r.id IS NULL
    )
    SELECT day FROM d
    WHERE d.ends <= %(now)s - %(grace)s AND NOT EXISTS (
        SELECT FROM usage_usagerecord u
        WHERE u.tenant_id = %(tenant)s AND u.state = 'reserved' AND u.created >= d.starts AND u.created < d.ends)
    ORDER BY day DESC LIMIT %(limit)s
"""
_BOUNDS = """
    SELECT time_zone AS zone, usage_day_start(%(day)s, time_zone) AS starts,
        usage_day_start(%(day)s + 1, time_zone) AS ends
    FROM tenants_tenant WHERE id = %(tenant)s
"""
# Only a day that is over, and all of whose turns are settled.
_MARK = """
    INSERT INTO usage_rolledday (id, tenant_id, day, zone, starts, ends)
    SELECT gen_random_uuid(), %(tenant)s, %(day)s, %(zone)s, %(starts)s, %(ends)s
    WHERE %(ends)s <= %(now)s - %(grace)s AND NOT EXISTS (
        SELECT FROM usage_usagerecord
        WHERE tenant_id = %(tenant)s AND state = 'reserved' AND created >= %(starts)s AND created < %(ends)s)
"""
_FORGET = tuple(
    f"DELETE FROM {name} WHERE tenant_id = %(tenant)s AND day = %(day)s"  # noqa: S608 - names of ours
    for name in ("usage_rolledday", "usage_dailyusage", "usage_dailyusagebyuser", "usage_dailyuser")
)
_OF = "kind, assistant_id, api_key_id, oauth_client_id, model"
_SUMS = "requests, once, delivered, loss, none, prompt_tokens, completion_tokens, pages, cost"
_ASKED = "kind <> 'ingestion'"  # a step of a document is nobody's request
_ADD_UP_BY_USER = f"""
    INSERT INTO usage_dailyusagebyuser (id, tenant_id, day, {_OF}, end_user_id, {_SUMS})
    SELECT gen_random_uuid(), tenant_id, %(day)s, {_OF}, end_user_id, count(*) FILTER (WHERE {_ASKED}),
        count(*) FILTER (WHERE bill = 'once' AND {_ASKED}), count(*) FILTER (WHERE bill = 'delivered' AND {_ASKED}),
        count(*) FILTER (WHERE bill = 'loss' AND {_ASKED}), count(*) FILTER (WHERE bill = 'none' AND {_ASKED}),
        sum(prompt_tokens), sum(completion_tokens), sum(pages), sum(cost)
    FROM usage_usagerecord
    WHERE tenant_id = %(tenant)s AND created >= %(starts)s AND created < %(ends)s
    GROUP BY tenant_id, {_OF}, end_user_id
"""  # noqa: S608 - names of ours
_ADD_UP = tuple(
    f"""
    INSERT INTO {name} (id, tenant_id, day, {of}, {_SUMS})
    SELECT gen_random_uuid(), tenant_id, day, {of}, {", ".join(f"sum({each})" for each in _SUMS.split(", "))}
    FROM usage_dailyusagebyuser WHERE tenant_id = %(tenant)s AND day = %(day)s
    GROUP BY tenant_id, day, {of}
    """  # noqa: S608 - names of ours
    for name, of in (("usage_dailyusage", _OF), ("usage_dailyuser", "end_user_id"))
)


def roll_up(*, seconds: float = SECONDS, only: uuid.UUID | None = None) -> int:
    """Roll up what every tenant's ledger has of closed days, for about so long. Returns how many days that were."""
    ends_at = time.monotonic() + seconds
    waiting = [only] if only else lookups.all_tenants()
    rolled = 0
    while waiting:
        unfinished = []
        for tenant_id in waiting:
            days = open_days(tenant_id)
            for day in days:
                if time.monotonic() > ends_at:
                    log.info("usage.rolled_up", days=rolled, finished=False)
                    return rolled
                rolled += rebuild_day(tenant_id, day)
            if len(days) == AT_ONCE:
                unfinished.append(tenant_id)
        waiting = unfinished
    if rolled:
        log.info("usage.rolled_up", days=rolled, finished=True)
    return rolled


def rebuild(tenant_id: uuid.UUID, first: dt.date, last: dt.date) -> int:
    """Roll these days up anew, the last included. Returns how many of them are over and settled; the rest is read from
    the ledger."""
    days = (first + dt.timedelta(days=n) for n in range((last - first).days + 1))
    return sum(rebuild_day(tenant_id, day) for day in days)


def open_days(tenant_id: uuid.UUID) -> list[dt.date]:
    """Days of the tenant that are over, settled and not rolled up in its zone; the latest first, AT_ONCE at most."""
    with tenant_scope(tenant_id), connection.cursor() as cursor:
        cursor.execute(_OPEN_DAYS, _now() | {"tenant": tenant_id, "limit": AT_ONCE})
        return [day for (day,) in cursor.fetchall()]


def rebuild_day(tenant_id: uuid.UUID, day: dt.date) -> bool:
    """Replace the day's roll-ups, in a transaction of its own. Whether the day counts as rolled up now."""
    given = _now() | {"tenant": tenant_id, "day": day}
    with tenant_scope(tenant_id), connection.cursor() as cursor:
        # What follows sees every change that was committed before; later ones find the mark and take it away.
        cursor.execute(_LOCK, given)
        for statement in _FORGET:
            cursor.execute(statement, given)
        cursor.execute(_BOUNDS, given)
        zone, starts, ends = cursor.fetchone() or (None, None, None)
        given |= {"zone": zone, "starts": starts, "ends": ends}
        cursor.execute(_MARK, given)
        if not cursor.rowcount:
            return False
        for statement in (_ADD_UP_BY_USER, *_ADD_UP):
            cursor.execute(statement, given)
        return True


def _now() -> dict[str, Any]:
    return {"now": timezone.now(), "grace": GRACE}
