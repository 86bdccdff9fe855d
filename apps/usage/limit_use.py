"""Where a tenant stands: each of its limits with what is used of it, by the ledger and by what is kept."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from django.apps import apps
from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from apps.tenants.models import Tenant
from apps.usage import ingesting, limits
from apps.usage.keeping import kept
from apps.usage.limits import ASKING
from apps.usage.models import UsageRecord
from chatbot.quota import ASKED, INGESTED, KEPT, Account, Limit, Metric, Window, bounds, cost_units

MOST: Final = 20  # of those that one limit is of, each by itself: the ones that use most of it
_COLUMNS = {
    "assistant": "assistant_id",
    "key": "api_key_id",
    "client": "oauth_client_id",
    "user": "end_user_id",
    "visitor": "end_user_id",
}
_COUNTS = Q(state="reserved") | Q(bill__in=["once", "delivered"])
_SUMS: dict[str, Any] = {
    "requests": Count("pk"),
    "turns": Count("pk"),
    "tokens": Coalesce(Sum(F("prompt_tokens") + F("completion_tokens") + F("reserved_tokens")), 0),
    "cost": Sum(F("cost") + F("reserved_cost")),
}


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
        for account, subject, used in _used(tenant, level, metric, named, (begin, until or now)):
            # A limit for one of them goes before the one for each.
            uses += [
                Use(limit, subject, used, until if window not in ("minute", "once") else None)
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
    rows = UsageRecord.objects.for_tenant(tenant).exclude(kind="ingestion").filter(_COUNTS)
    if begin is None:  # what runs right now
        rows = rows.filter(state="reserved", turn_id__isnull=False)
    else:
        rows = rows.filter(created__gte=begin, created__lte=end)
    if level == "tenant":
        return [(Account("tenant"), "", _whole(metric, rows.aggregate(used=_SUMS[metric])["used"]))]
    if level == "scope":
        used = _whole(metric, rows.aggregate(used=_SUMS[metric])["used"])
        return [(Account("scope", ASKING), ASKING, used)] if named in ("", ASKING) else []
    return _by_account(rows, level, metric, named)


def _by_account(rows: QuerySet[UsageRecord], level: str, metric: Metric, named: str) -> list[tuple[Account, str, int]]:
    column = _COLUMNS[level]
    subject = "end_user__external_id" if column == "end_user_id" else column
    if column == "end_user_id":
        visitors = Q(end_user__external_id__startswith="visitor:")
        rows = rows.filter(visitors if level == "visitor" else ~visitors)
    elif named and not _is_id(named):
        return []
    if named:
        rows = rows.filter(**{subject: named})
    found = (
        rows.filter(**{f"{column}__isnull": False}).order_by().values_list(column, subject).annotate(used=_SUMS[metric])
    )
    return [
        (Account(level, str(pk)), str(subject), _whole(metric, used))
        for pk, subject, used in found.order_by("-used")[:MOST]
    ]


def _collections(tenant: Tenant) -> list[str]:
    rows = apps.get_model("knowledge.Collection")._default_manager.filter(tenant=tenant)
    return [str(pk) for pk in rows.values_list("pk", flat=True)[:1_000]]


def _whole(metric: Metric, used: Any) -> int:
    return cost_units(used or Decimal(0)) if metric == "cost" else int(used or 0)


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
