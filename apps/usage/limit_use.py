"""Where a tenant stands: each of its limits with what is used of it, by the ledger and by what is kept."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from django.apps import apps
from django.db import connection
from django.utils import timezone

from apps.tenants.models import Tenant
from apps.usage import ingesting, limits
from apps.usage.keeping import kept
from apps.usage.limits import ASKING
from apps.usage.rebuilding import COLUMNS, used, whole
from chatbot.quota import ASKED, INGESTED, KEPT, Account, Limit, Metric, Window, bounds

MOST: Final = 20  # of those that one limit is of, each by itself: the ones that use most of it
_OF_ALL = "SELECT {used} FROM usage_usagerecord u WHERE u.tenant_id = %(tenant)s AND {rows}"
_OF_EACH = """
    SELECT u.{column}, {subject}, {used} FROM usage_usagerecord u
    LEFT JOIN tenants_enduser e ON e.tenant_id = u.tenant_id AND e.id = u.end_user_id
    WHERE u.tenant_id = %(tenant)s AND {rows} AND u.{column} IS NOT NULL
    GROUP BY 1, 2 ORDER BY 3 DESC LIMIT %(most)s
"""
_PEOPLE = {"user": "e.external_id NOT LIKE 'visitor:%%'", "visitor": "e.external_id LIKE 'visitor:%%'"}


@dataclass(frozen=True, slots=True)
class Use:
    """used: in the limit's units (chatbot/quota.py), and may be beyond it. subject: whose, as limits name it. until:
    when the window ends; None where there is none, and for a minute, whose amount is earned back evenly."""

    limit: Limit
    subject: str
    used: int
    until: dt.datetime | None

    @property
    def share(self) -> float:
        return self.used / self.limit.amount if self.limit.amount else 1.0


def in_use(
    tenant: Tenant, now: dt.datetime | None = None, metrics: frozenset[Metric] = ASKED | KEPT | INGESTED
) -> list[Use]:
    """Each limit of the tenant with its use right now, what is used most first; of those that are of each assistant,
    key or end user by itself, the MOST that use most. Call it in the tenant's scope."""
    now = now or timezone.now()
    found = limits.read(tenant)
    uses = []
    for (level, metric, window), named in found.rules():
        if metric not in metrics:
            continue
        begin, until = _period(tenant, window, now)
        for account, subject, amount in _used(tenant, level, metric, named, (begin, until or now)):
            # A limit for one of them goes before the one for each.
            uses += [
                Use(limit, subject, amount, until if window not in ("minute", "once") else None)
                for limit in found.of([(account, subject)], metrics)
                if (limit.metric, limit.window) == (metric, window)
            ]
    unique = {(str(use.limit.account), use.limit.name): use for use in uses}
    return sorted(unique.values(), key=lambda use: -use.share)


def _period(tenant: Tenant, window: str, now: dt.datetime) -> tuple[dt.datetime | None, dt.datetime | None]:
    match window:
        case "once":
            return None, None
        case "minute":
            return now - dt.timedelta(minutes=1), None
    return bounds(cast("Window", window), now, ZoneInfo(tenant.time_zone))


def _used(
    tenant: Tenant, level: str, metric: Metric, named: str, period: tuple[dt.datetime | None, dt.datetime]
) -> list[tuple[Account, str, int]]:
    begin, end = period
    if metric in KEPT:
        return [
            (Account(level, pk), pk, getattr(kept(tenant, uuid.UUID(pk) if pk else None), metric))
            for pk in ([named] if named else _collections(tenant) if level == "collection" else [""])
            if not pk or _is_id(pk)
        ]
    if metric in INGESTED:
        return [(Account("tenant"), "", ingesting.used(tenant, metric, begin or end, end))]
    # What was asked in the window, or what runs right now.
    of_window = "u.created >= %(begin)s AND u.created <= %(end)s"
    rows = of_window if begin else "u.state = 'reserved' AND u.turn_id IS NOT NULL"
    given = {"tenant": tenant.pk, "begin": begin, "end": end, "named": named, "most": MOST}
    if column := COLUMNS.get(level):
        subject = "e.external_id" if level in _PEOPLE else f"u.{column}::text"
        conditions = [rows, _PEOPLE.get(level, "true"), f"{subject} = %(named)s" if named else "true"]
        query = _OF_EACH.format(
            column=column, subject=subject, used=used(metric, "true"), rows=" AND ".join(conditions)
        )
        found = _read(query, given)
        return [(Account(level, str(pk)), name, whole(metric, amount)) for pk, name, amount in found if amount]
    if level == "scope" and named not in ("", ASKING):
        return []
    [(amount,)] = _read(_OF_ALL.format(used=used(metric, "true"), rows=rows), given)
    account = Account("scope", ASKING) if level == "scope" else Account("tenant")
    return [(account, account.subject, whole(metric, amount))]


def _read(query: str, given: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, given)
        return list(cursor.fetchall())


def _collections(tenant: Tenant) -> list[str]:
    rows = apps.get_model("knowledge.Collection")._default_manager.filter(tenant=tenant)
    return [str(pk) for pk in rows.values_list("pk", flat=True)[:1_000]]


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
