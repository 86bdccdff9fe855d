"""The SQL of a report: closed months and days from their roll-ups, everything else from the ledger, in one statement,
so at one moment."""

# ruff: noqa: S608 - all names are ours

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from apps.usage.models import UsageRecord
from apps.usage.naming import OF_TENANTS

BILLS = tuple(bill.value for bill in UsageRecord.Bill)
Whose = Literal["one", "some", "all"]  # tenants' use
COUNTED = ("requests", "unsettled", *BILLS, "prompt_tokens", "completion_tokens", "pages", "cost")

# PostgreSQL's 4 MB are too few for the sums of some thousand end users: it would sort all rows on disk instead.
# And it thinks that days need their rows compiled for, which takes longer than reading them.
SETTINGS = "SET LOCAL work_mem = '32MB'; SET LOCAL jit = off"

# By what it is added up: a column of the ledger. A day is no column of it.
_COLUMNS = {
    "assistant": "assistant_id",
    "user": "end_user_id",
    "key": "api_key_id",
    "client": "oauth_client_id",
    "model": "model",
    "kind": "kind",
}
_BY_TEXT = ("model", "kind")
# What a group is called. Of who was deleted the ledger keeps no id and roll-ups do; neither means anybody, so these are
# looked for.
_KEYS = {"user": "e.external_id", "key": "k.id", "model": "nullif(u.what, '')"}
_JOINS = {
    "user": "LEFT JOIN tenants_enduser e ON e.tenant_id = u.tenant_id AND e.id = u.what",
    "key": "LEFT JOIN tenants_apikey k ON k.tenant_id = u.tenant_id AND k.id = u.what",
}
# A whole month is one row of a tenant's where it counts as rolled up, and else its days; before a tenant's first use
# there are none.
_SPANS = """
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
    ledger AS MATERIALIZED (
        SELECT d.tenant_id, u.* FROM of_ledger d CROSS JOIN LATERAL (
            SELECT {columns}, count(*) FILTER (WHERE {asked}) AS requests,
                count(*) FILTER (WHERE u.state = 'reserved' AND {asked}) AS unsettled,
                count(*) FILTER (WHERE u.bill = 'once' AND {asked}) AS once,
                count(*) FILTER (WHERE u.bill = 'delivered' AND {asked}) AS delivered,
                count(*) FILTER (WHERE u.bill = 'loss' AND {asked}) AS loss,
                count(*) FILTER (WHERE u.bill = 'none' AND {asked}) AS none,
                sum(u.prompt_tokens) AS prompt_tokens, sum(u.completion_tokens) AS completion_tokens,
                sum(u.pages) AS pages, sum(u.cost) AS cost
            FROM usage_usagerecord u
            WHERE u.tenant_id = d.tenant_id AND u.created >= d.starts AND u.created < d.ends {only}
            GROUP BY {places}
            OFFSET 0 -- day by day, through the index
        ) u
    )
"""
_ADDED = ", ".join(f"sum(u.{name}) AS {name}" for name in COUNTED)
# Added up before anybody is looked for: of a year there are many rows of each.
_GROUPS = f"""
    {{name}} AS MATERIALIZED (
        SELECT {{key}} AS key, {{tenant}} AS tenant_id, {_ADDED} FROM (
            SELECT u.tenant_id, u.what, {_ADDED} FROM (
                {{parts}}
            ) u GROUP BY 1, 2
        ) u {{join}} GROUP BY 1, 2
    )
"""
_TOTAL = ", ".join(f"coalesce(sum({name}), 0)" for name in COUNTED)
_EACH = ", ".join(f"coalesce({name}, 0)" for name in COUNTED)
_RESULT = f"""
    SELECT '{{by}}', NULL, NULL::uuid, true, {_TOTAL} FROM {{name}}
    UNION ALL (
        SELECT '{{by}}', key::text, tenant_id, false, {_EACH} FROM {{name}} ORDER BY {{order}} LIMIT %(most)s
    )
"""
_PART = """
        SELECT {tenant} AS tenant_id, {what} AS what, u.requests, {unsettled} AS unsettled, u.once, u.delivered, u.loss,
            u.none, u.prompt_tokens, u.completion_tokens, u.pages, u.cost
        FROM {table} u {span}
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


def spans(bys: Sequence[str], whose: Whose, *, of_user: bool = False) -> str:
    """What a statement begins with: which months and days are rolled up, and `ledger`, the sums of all others."""
    columns = ["d.day AS day", *(f"u.{column}" for by in bys if (column := _COLUMNS.get(by)))]
    return _SPANS.format(
        asked="u.kind <> 'ingestion'",  # a step of a document is nobody's request
        whose=_of(whose, "t.id"),
        only=_only(whose, of_user=of_user),
        of_rolled=_of(whose, "r.tenant_id"),  # a constant, for the index
        columns=", ".join(columns),
        places=", ".join(str(place) for place in range(1, len(columns) + 1)),
    )


def statement(bys: Sequence[str], whose: Whose, *, of_user: bool = False) -> str:
    """Rows of what they are by, the group's key, its tenant, whether it is the total, and COUNTED."""
    only = _only(whose, of_user=of_user)
    groups = [_groups(by, only, of_user=of_user) for by in bys]
    results = [
        _RESULT.format(
            by=by,
            name=f"by_{by}",
            order="key" if by == "day" else "prompt_tokens + completion_tokens DESC, requests DESC, key, tenant_id",
        )
        for by in bys
    ]
    return ", ".join([spans(bys, whose, of_user=of_user), *groups]) + "UNION ALL".join(results)


def _only(whose: Whose, *, of_user: bool) -> str:
    return _of(whose, "u.tenant_id") + (" AND u.end_user_id = %(user)s" if of_user else "")


def _of(whose: Whose, column: str) -> str:
    return {"one": f"AND {column} = %(tenant)s", "some": f"AND {column} = ANY(%(tenants)s)", "all": ""}[whose]


def _groups(by: str, only: str, *, of_user: bool) -> str:
    of_tenants = by in OF_TENANTS
    return _GROUPS.format(
        name=f"by_{by}",
        key=_KEYS.get(by, "u.what"),
        tenant="u.tenant_id" if of_tenants else "NULL::uuid",
        join=_JOINS.get(by, ""),
        parts="UNION ALL".join(_parts(by, only, of_user=of_user)),
    )


def _parts(by: str, only: str, *, of_user: bool) -> list[str]:
    """What is added up: of the roll-ups the smallest that tell what is asked, and the ledger."""
    tenant = "u.tenant_id" if by in OF_TENANTS else "NULL::uuid"
    column = what = f"u.{'tenant_id' if by == 'tenant' else _COLUMNS.get(by, 'day')}"
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
    rolled = [
        _PART.format(tenant=tenant, what=what, unsettled=0, table=table, span=span.format(only=only, used=used))
        for table, span in sources
    ]
    return [*rolled, _PART.format(tenant=tenant, what=column, unsettled="u.unsettled", table="ledger", span="")]
