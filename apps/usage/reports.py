"""Adds usage up: closed days from their roll-ups, everything else from the ledger, in one statement, so at one moment.

The answer equals the ledger's own sum at any time: a day counts as rolled up only while nothing in it has changed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.models import QuerySet

from apps.tenants.models import EndUser, Tenant
from apps.usage.models import DailyUsage, DailyUsageByUser, DailyUser, UsageRecord
from apps.usage.naming import OF_TENANTS, names_of

# More groups than this are not told apart; the records themselves can still be read.
MAX_GROUPS = 1_000
GROUPS = ("day", "assistant", "user", "key", "client", "model", "kind")
BILLS = tuple(bill.value for bill in UsageRecord.Bill)
COUNTED = ("requests", "unsettled", *BILLS, "prompt_tokens", "completion_tokens", "pages")

# By what it is added up: a column of both sources. A day of the ledger is no column of it.
_COLUMNS = {
    "day": "day",
    "assistant": "assistant_id",
    "user": "end_user_id",
    "key": "api_key_id",
    "client": "oauth_client_id",
    "model": "model",
    "kind": "kind",
    "tenant": "tenant_id",
}
# What a group is called. Of who was deleted the ledger keeps no id and roll-ups do; neither means anybody, so these are
# looked for.
_KEYS = {"user": "e.external_id", "key": "k.id", "model": "nullif(u.what, '')"}
_JOINS = {
    "user": "LEFT JOIN tenants_enduser e ON e.tenant_id = u.tenant_id AND e.id = u.what",
    "key": "LEFT JOIN tenants_apikey k ON k.tenant_id = u.tenant_id AND k.id = u.what",
}
# PostgreSQL's 4 MB are too few for the sums of some thousand end users: it would sort all rows on disk instead.
_MEMORY = "SET LOCAL work_mem = '32MB'"
_STATEMENT = """
    WITH of_ledger AS MATERIALIZED ( -- the days that are not rolled up
        SELECT t.id AS tenant_id, %(first)s::date + n AS day,
            usage_day_start(%(first)s::date + n, t.time_zone) AS starts,
            usage_day_start(%(first)s::date + n + 1, t.time_zone) AS ends
        FROM tenants_tenant t
        CROSS JOIN generate_series(0, %(days)s - 1) AS n
        LEFT JOIN usage_rolledday r
            ON r.tenant_id = t.id AND r.day = %(first)s::date + n AND r.zone = t.time_zone
        WHERE r.id IS NULL {whose}
    ),
    sums AS (
        SELECT u.tenant_id, {what} AS what, sum(u.requests) AS requests, 0 AS unsettled, sum(u.once) AS once,
            sum(u.delivered) AS delivered, sum(u.loss) AS loss, sum(u.none) AS none,
            sum(u.prompt_tokens)::bigint AS prompt_tokens, sum(u.completion_tokens)::bigint AS completion_tokens,
            sum(u.pages)::bigint AS pages, sum(u.cost) AS cost
        FROM {daily} u
        WHERE u.day BETWEEN %(first)s AND %(last)s {only}
            AND NOT EXISTS (SELECT FROM of_ledger d WHERE d.tenant_id = u.tenant_id AND d.day = u.day)
        GROUP BY 1, 2
        UNION ALL
        SELECT d.tenant_id, u.* FROM of_ledger d CROSS JOIN LATERAL (
            SELECT {what_of_ledger}, count(*) FILTER (WHERE {asked}),
                count(*) FILTER (WHERE u.state = 'reserved' AND {asked}),
                count(*) FILTER (WHERE u.bill = 'once' AND {asked}),
                count(*) FILTER (WHERE u.bill = 'delivered' AND {asked}),
                count(*) FILTER (WHERE u.bill = 'loss' AND {asked}),
                count(*) FILTER (WHERE u.bill = 'none' AND {asked}),
                sum(u.prompt_tokens), sum(u.completion_tokens), sum(u.pages), sum(u.cost)
            FROM usage_usagerecord u
            WHERE u.tenant_id = d.tenant_id AND u.created >= d.starts AND u.created < d.ends {only}
            GROUP BY 1
            OFFSET 0 -- day by day, through the index
        ) u
    )
    SELECT {key}, {tenant}, GROUPING({key}) = 1,
        coalesce(sum(u.requests), 0) AS requests, coalesce(sum(u.unsettled), 0),
        coalesce(sum(u.once), 0), coalesce(sum(u.delivered), 0), coalesce(sum(u.loss), 0), coalesce(sum(u.none), 0),
        coalesce(sum(u.prompt_tokens), 0), coalesce(sum(u.completion_tokens), 0), coalesce(sum(u.pages), 0),
        coalesce(sum(u.cost), 0),
        coalesce(sum(u.prompt_tokens + u.completion_tokens), 0) AS tokens
    FROM sums u {join}
    GROUP BY GROUPING SETS (({groups}), ())
    ORDER BY 3 DESC, {order} LIMIT %(most)s + 1
"""


@dataclass(frozen=True, slots=True)
class Report:
    """total: of everything, as a dict. groups: the same for each group, with its `key`, its `name` where people gave it
    one, and, where it is of one tenant, `tenant_id`."""

    total: dict[str, Any]
    groups: list[dict[str, Any]]


def records_of(tenant: Tenant, first: dt.date, last: dt.date, *, user: str = "") -> QuerySet[UsageRecord]:
    """The ledger's rows of whole days, in the tenant's time zone, the last day included."""
    zone = ZoneInfo(tenant.time_zone)
    begin = dt.datetime.combine(first, dt.time(), zone)
    end = dt.datetime.combine(last + dt.timedelta(days=1), dt.time(), zone)
    rows: QuerySet[UsageRecord] = UsageRecord.objects.for_tenant(tenant).filter(created__gte=begin, created__lt=end)
    return rows.filter(end_user__external_id=user) if user else rows


def add_up(
    tenant: Tenant | None, first: dt.date, last: dt.date, by: str, *, user: str = "", most: int = MAX_GROUPS
) -> Report:
    """Usage of whole days in the tenant's time zone, the last day included, by one of GROUPS: days in order, anything
    else by its tokens, most first, and no more groups than `most`.

    tenant: None for all of them together, each in its own zone, and also by "tenant"; then within across_tenants().
    user: of this end user alone. cost is in the currency of the installation.
    """
    given: dict[str, Any] = {"first": first, "last": last, "days": (last - first).days + 1, "most": most}
    whose, only = "", ""
    if tenant is not None:
        whose, given["tenant"] = "AND t.id = %(tenant)s", tenant.pk
        only = "AND u.tenant_id = %(tenant)s"
    if user and tenant is not None:
        found = EndUser.objects.for_tenant(tenant).filter(external_id=user).values_list("pk", flat=True)
        only, given["user"] = f"{only} AND u.end_user_id = %(user)s", found.first()
    daily = DailyUsageByUser if user else DailyUser if by == "user" else DailyUsage
    statement = _statement(by, whose=whose, only=only, daily=daily._meta.db_table)
    alias = router.db_for_read(DailyUsage) or DEFAULT_DB_ALIAS
    with transaction.atomic(alias), connections[alias].cursor() as cursor:
        cursor.execute(_MEMORY)
        cursor.execute(statement, given)
        total, *groups = cursor.fetchall()
    names = names_of(by, [row[0] for row in groups])
    return Report(
        total=_sums(total),
        groups=[{"key": _text(row[0]), "name": names.get(row[0]), "tenant_id": row[1], **_sums(row)} for row in groups],
    )


def _statement(by: str, *, whose: str, only: str, daily: str) -> str:
    key = _KEYS.get(by, "u.what")
    of_tenants = by in OF_TENANTS
    return _STATEMENT.format(
        asked="u.kind <> 'ingestion'",  # a step of a document is nobody's request
        whose=whose,
        only=only,
        daily=daily,
        what=f"u.{_COLUMNS[by]}",
        what_of_ledger="d.day" if by == "day" else f"u.{_COLUMNS[by]}",
        key=key,
        tenant="u.tenant_id" if of_tenants else "NULL::uuid",
        groups=f"{key}, u.tenant_id" if of_tenants else key,
        join=_JOINS.get(by, ""),
        order="1" if by == "day" else "tokens DESC, requests DESC, 1",
    )


def _sums(row: Sequence[Any]) -> dict[str, Any]:
    counted = dict(zip((*COUNTED, "cost", "total_tokens"), row[3:], strict=True))
    sums = {name: int(count) for name, count in counted.items() if name != "cost" and name not in BILLS}
    return {**sums, "cost": counted["cost"], "bills": {bill: int(counted[bill]) for bill in BILLS}}


def _text(key: Any) -> str | None:
    return None if key is None else str(key)
