"""Adds usage up: closed months and days from their roll-ups, everything else from the ledger, in one statement, so at
one moment.

The answer equals the ledger's own sum at any time: a span counts as rolled up only while nothing in it has changed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.models import QuerySet

from apps.tenants.models import EndUser, Tenant
from apps.usage.models import RolledDay, UsageRecord
from apps.usage.naming import OF_TENANTS, names_of

# More groups than this are not told apart; the records themselves can still be read.
MAX_GROUPS = 1_000
GROUPS = ("day", "assistant", "user", "key", "client", "model", "kind")
BILLS = tuple(bill.value for bill in UsageRecord.Bill)
COUNTED = ("requests", "unsettled", *BILLS, "prompt_tokens", "completion_tokens", "pages")

# By what it is added up: a column of the ledger. A day is no column of it.
_COLUMNS = {
    "assistant": "assistant_id",
    "user": "end_user_id",
    "key": "api_key_id",
    "client": "oauth_client_id",
    "model": "model",
    "kind": "kind",
    "tenant": "tenant_id",
}
_BY_TEXT = ("model", "kind")
# What a group is called. Of who was deleted the ledger keeps no id and roll-ups do; neither means anybody, so these are
# looked for.
_KEYS = {"user": "e.external_id", "key": "k.id", "model": "nullif(u.what, '')"}
_JOINS = {
    "user": "LEFT JOIN tenants_enduser e ON e.tenant_id = u.tenant_id AND e.id = u.what",
    "key": "LEFT JOIN tenants_apikey k ON k.tenant_id = u.tenant_id AND k.id = u.what",
}
# PostgreSQL's 4 MB are too few for the sums of some thousand end users: it would sort all rows on disk instead.
# And it thinks that days need their rows compiled for, which takes longer than reading them.
_SETTINGS = "SET LOCAL work_mem = '32MB'; SET LOCAL jit = off"
# A whole month is one row of a tenant's where it counts as rolled up, and else its days; before a tenant's first use
# there are none.
_STATEMENT = """
    WITH pieces AS MATERIALIZED (
        SELECT t.id AS tenant_id, t.time_zone, p.first, p.last, used.first AS used, m.id IS NOT NULL AS rolled
        FROM tenants_tenant t
        CROSS JOIN LATERAL (
            SELECT (min(created) AT TIME ZONE t.time_zone)::date AS first FROM usage_usagerecord WHERE tenant_id = t.id
        ) used
        CROSS JOIN unnest(%(firsts)s::date[], %(lasts)s::date[], %(whole)s::boolean[]) AS p(first, last, whole)
        LEFT JOIN usage_rolledmonth m ON p.whole AND m.tenant_id = t.id AND m.day = p.first AND m.zone = t.time_zone
        WHERE p.last >= used.first {whose}
    ),
    days AS MATERIALIZED (
        SELECT p.tenant_id, p.first + n AS day, p.time_zone, r.id IS NOT NULL AS rolled
        FROM pieces p
        CROSS JOIN LATERAL generate_series(greatest(p.used - p.first, 0), p.last - p.first) AS n
        LEFT JOIN usage_rolledday r
            ON r.tenant_id = p.tenant_id AND r.day = p.first + n AND r.zone = p.time_zone {of_rolled}
            AND r.day = ANY(ARRAY( -- and not all that were ever rolled up
                SELECT q.first + n FROM (SELECT DISTINCT first, last FROM pieces WHERE NOT rolled) q
                CROSS JOIN LATERAL generate_series(0, q.last - q.first) AS n
            ))
        WHERE NOT p.rolled
    ),
    of_ledger AS MATERIALIZED (
        SELECT tenant_id, day, usage_day_start(day, time_zone) AS starts, usage_day_start(day + 1, time_zone) AS ends
        FROM days WHERE NOT rolled
    ),
    sums AS (
        {rolled_up}
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
_SUMS = """
        SELECT {tenant} AS tenant_id, {what} AS what, sum(u.requests) AS requests, 0 AS unsettled, sum(u.once) AS once,
            sum(u.delivered) AS delivered, sum(u.loss) AS loss, sum(u.none) AS none,
            sum(u.prompt_tokens)::bigint AS prompt_tokens, sum(u.completion_tokens)::bigint AS completion_tokens,
            sum(u.pages)::bigint AS pages, sum(u.cost) AS cost
        FROM {table} u {span}
        GROUP BY 1, 2
"""
# `used`: days and months without any use are rolled up, too.
_OF_MONTHS = "JOIN pieces p ON p.rolled AND p.tenant_id = u.tenant_id AND p.first = u.day WHERE {used} {only}"
# That the days are repeated, as an array, is for the index.
_OF_DAYS = """
    JOIN days d ON d.rolled AND d.tenant_id = u.tenant_id AND d.day = u.day
    WHERE {used} AND u.day = ANY(ARRAY(SELECT DISTINCT day FROM days WHERE rolled)) {only}
"""
# Every day that counts as rolled up, whether its month does or not.
_EACH_DAY = """
    JOIN tenants_tenant t ON t.id = u.tenant_id AND t.time_zone = u.zone
    WHERE {used} AND u.day BETWEEN %(first)s AND %(last)s {only}
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
    given: dict[str, Any] = {"first": first, "last": last, "most": most}
    # One end user's use is few rows a day, and has no months.
    given["firsts"], given["lasts"], given["whole"] = zip(*_pieces(first, last, months=not user), strict=True)
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    whose, only = "", ""
    if tenant is not None:
        whose, given["tenant"] = "AND t.id = %(tenant)s", tenant.pk
        only = "AND u.tenant_id = %(tenant)s"
    if user and tenant is not None:
        found = EndUser.objects.for_tenant(tenant).filter(external_id=user).values_list("pk", flat=True)
        only, given["user"] = f"{only} AND u.end_user_id = %(user)s", found.first()
    statement = _statement(by, whose=whose, only=only, of_user=bool(user))
    alias = router.db_for_read(RolledDay) or DEFAULT_DB_ALIAS
    with transaction.atomic(alias), connections[alias].cursor() as cursor:
        cursor.execute(_SETTINGS)
        cursor.execute(statement, given)
        total, *groups = cursor.fetchall()
    names = names_of(by, [row[0] for row in groups])
    return Report(
        total=_sums(total),
        groups=[{"key": _text(row[0]), "name": names.get(row[0]), "tenant_id": row[1], **_sums(row)} for row in groups],
    )


def _pieces(first: dt.date, last: dt.date, *, months: bool) -> Iterator[tuple[dt.date, dt.date, bool]]:
    """The span cut where months begin: first and last day of each piece, and whether it is a whole month."""
    while first <= last:
        following = (first.replace(day=1) + dt.timedelta(days=31)).replace(day=1)
        end = min(last, following - dt.timedelta(days=1))
        yield first, end, months and (end - first).days + 1 == (following - first.replace(day=1)).days
        first = following


def _statement(by: str, *, whose: str, only: str, of_user: bool) -> str:
    key = _KEYS.get(by, "u.what")
    of_tenants = by in OF_TENANTS
    return _STATEMENT.format(
        asked="u.kind <> 'ingestion'",  # a step of a document is nobody's request
        whose=whose,
        only=only,
        of_rolled=whose.replace("t.id", "r.tenant_id"),  # a constant, for the index
        rolled_up=_rolled_up(by, only, of_user=of_user),
        what_of_ledger="d.day" if by == "day" else f"u.{_COLUMNS[by]}",
        key=key,
        tenant="u.tenant_id" if of_tenants else "NULL::uuid",
        groups=f"{key}, u.tenant_id" if of_tenants else key,
        join=_JOINS.get(by, ""),
        order="1" if by == "day" else "tokens DESC, requests DESC, 1",
    )


def _rolled_up(by: str, only: str, *, of_user: bool) -> str:
    """The part of the statement that reads roll-ups: the smallest that tell what is asked."""
    tenant, what = "u.tenant_id" if by in OF_TENANTS else "NULL::uuid", f"u.{_COLUMNS.get(by, 'day')}"
    used = "u.used" if by in ("day", "tenant") and not of_user else "true"
    if of_user:
        sources = [("usage_dailyusagebyuser", _OF_DAYS)]
    elif by == "day":
        sources = [("usage_rolledday", _EACH_DAY)]
    elif by == "tenant":
        sources = [("usage_rolledmonth", _OF_MONTHS), ("usage_rolledday", _OF_DAYS)]
    elif by == "user":
        sources = [("usage_monthlyuser", _OF_MONTHS), ("usage_dailyuser", _OF_DAYS)]
    else:
        sources = [("usage_monthlyuse", _OF_MONTHS), ("usage_dailyuse", _OF_DAYS)]
        what, only = f"u.{'what' if by in _BY_TEXT else 'what_id'}", f"AND u.by = '{by}' {only}"
    return "UNION ALL".join(
        _SUMS.format(tenant=tenant, what=what, table=table, span=span.format(only=only, used=used))
        for table, span in sources
    )


def _sums(row: Sequence[Any]) -> dict[str, Any]:
    counted = dict(zip((*COUNTED, "cost", "total_tokens"), row[3:], strict=True))
    sums = {name: int(count) for name, count in counted.items() if name != "cost" and name not in BILLS}
    return {**sums, "cost": counted["cost"], "bills": {bill: int(counted[bill]) for bill in BILLS}}


def _text(key: Any) -> str | None:
    return None if key is None else str(key)
