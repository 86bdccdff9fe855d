"""Adds the ledger up: what a tenant's turns cost in a period, by day, assistant or end user."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncDate

from apps.tenants.models import Tenant
from apps.usage.models import UsageRecord

# More groups than this are not told apart; the records themselves can still be read.
MAX_GROUPS = 1_000
GROUPS = ("day", "assistant", "user")
_TOTALS = {
    "requests": Count("pk"),
    "unsettled": Count("pk", filter=Q(state=UsageRecord.State.RESERVED)),
    "prompt": Coalesce(Sum("prompt_tokens"), 0),
    "completion": Coalesce(Sum("completion_tokens"), 0),
    "total_tokens": Coalesce(Sum(F("prompt_tokens") + F("completion_tokens")), 0),
}
_BILLS = {bill.value: Count("pk", filter=Q(bill=bill)) for bill in UsageRecord.Bill}


def records_of(tenant: Tenant, first: dt.date, last: dt.date, *, user: str = "") -> QuerySet[UsageRecord]:
    """The ledger's rows of whole days, in the tenant's time zone, the last day included."""
    zone = ZoneInfo(tenant.time_zone)
    begin = dt.datetime.combine(first, dt.time(), zone)
    end = dt.datetime.combine(last + dt.timedelta(days=1), dt.time(), zone)
    rows: QuerySet[UsageRecord] = UsageRecord.objects.for_tenant(tenant).filter(created__gte=begin, created__lt=end)
    return rows.filter(end_user__external_id=user) if user else rows


def totals(rows: QuerySet[UsageRecord]) -> dict[str, Any]:
    """Requests, tokens and bills of all these rows."""
    return _shaped([rows.order_by().aggregate(**_TOTALS, **_BILLS)])[0]


def grouped(rows: QuerySet[UsageRecord], by: str, tenant: Tenant) -> list[dict[str, Any]]:
    """The same for each group: days in order, assistants and end users by their tokens, most first."""
    key = {
        "day": TruncDate("created", tzinfo=ZoneInfo(tenant.time_zone)),
        "assistant": F("assistant_id"),
        "user": F("end_user__external_id"),
    }[by]
    order = ("key",) if by == "day" else ("-total_tokens", "-requests", "key")
    groups = rows.order_by().annotate(key=key).values("key").annotate(**_TOTALS, **_BILLS).order_by(*order)
    return _shaped(groups[:MAX_GROUPS])


def _shaped(found: Iterable[Any]) -> list[dict[str, Any]]:
    return [
        {
            **row,
            "prompt_tokens": row["prompt"],
            "completion_tokens": row["completion"],
            "bills": {name: row[name] for name in _BILLS},
        }
        for row in found
    ]
