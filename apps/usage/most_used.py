"""Who and what used most, without adding everybody up.

Of a tenant's end users: of each month and day only those are looked at that used most in it, and they are added up
whole. Who is not among them used in each of these spans at most as much as the last one that was looked at. So where
enough of the others used more than all of that together, nobody is missing; else everybody is added up.

Of what all tenants have: an assistant or a key used at most what its tenant did, so those of the biggest tenants
suffice where enough of them used more than the biggest of all other tenants; else all are added up.
"""

# ruff: noqa: S608 - all names are ours

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

from apps.tenants.models import Tenant
from apps.usage.report_statement import COUNTED, spans
from apps.usage.reports import Report, add_up, add_up_by, asked, sums

# Of each span. More are more to add up, fewer suffice less often: of a year there are up to seventy spans.
LOOKED_AT = 40
BIGGEST = 20  # tenants
NOBODY = -1  # is left, who was not looked at
_NAMES = ", ".join(f"u.{name}" for name in COUNTED)
_SUMS = ", ".join(f"coalesce(sum(u.{name}), 0)" for name in COUNTED)

_OF_ROLLED = """
    SELECT u.* FROM {spans} s CROSS JOIN LATERAL (
        SELECT u.day, u.end_user_id, u.prompt_tokens + u.completion_tokens AS tokens FROM {table} u
        WHERE u.tenant_id = %(tenant)s AND u.day = s.{day}
        ORDER BY u.prompt_tokens + u.completion_tokens DESC LIMIT %(looked_at)s
    ) u WHERE s.rolled
"""
# Of one of them, through the index.
_SUMS_OF_ROLLED = """
    SELECT u.requests, 0 AS unsettled, u.once, u.delivered, u.loss, u.none, u.prompt_tokens, u.completion_tokens,
        u.pages, u.cost
    FROM {table} u
    WHERE u.tenant_id = %(tenant)s AND u.end_user_id = c.id
        AND u.day = ANY(ARRAY(SELECT {day} FROM {spans} WHERE rolled))
"""
_MONTHS = {"table": "usage_monthlyuser", "spans": "pieces", "day": "first"}
_DAYS = {"table": "usage_dailyuser", "spans": "days", "day": "day"}
_STATEMENT = f"""
    , most AS MATERIALIZED (
        {_OF_ROLLED.format(**_MONTHS)} UNION ALL {_OF_ROLLED.format(**_DAYS)} UNION ALL
        SELECT day, end_user_id, tokens FROM (
            SELECT day, end_user_id, prompt_tokens + completion_tokens AS tokens,
                row_number() OVER (PARTITION BY day ORDER BY prompt_tokens + completion_tokens DESC) AS place
            FROM ledger
        ) u WHERE place <= %(looked_at)s
    ),
    others AS (
        SELECT coalesce(sum(least), {NOBODY}) AS at_most FROM (
            SELECT min(tokens) AS least FROM most GROUP BY day HAVING count(*) >= %(looked_at)s
        ) of
    ),
    candidates AS MATERIALIZED (
        SELECT e.id, e.external_id FROM (SELECT DISTINCT end_user_id FROM most) m
        JOIN tenants_enduser e ON e.tenant_id = %(tenant)s AND e.id = m.end_user_id
    )
    SELECT c.external_id, others.at_most, {_SUMS} FROM others CROSS JOIN candidates c JOIN (
        SELECT c.id, u.* FROM candidates c CROSS JOIN LATERAL (
            {_SUMS_OF_ROLLED.format(**_MONTHS)} UNION ALL {_SUMS_OF_ROLLED.format(**_DAYS)}
        ) u
        UNION ALL SELECT c.id, {_NAMES} FROM candidates c JOIN ledger u ON u.end_user_id = c.id
    ) u ON u.id = c.id
    GROUP BY 1, 2 ORDER BY sum(u.prompt_tokens) + sum(u.completion_tokens) DESC, sum(u.requests) DESC, 1
    LIMIT %(most)s
"""


def who_used_most(
    tenant: Tenant, first: dt.date, last: dt.date, most: int, *, looked_at: int = LOOKED_AT
) -> list[dict[str, Any]]:
    """The groups of add_up(…, "user"), but for those who are deleted or were not named."""
    query = spans(["user"], "one") + _STATEMENT
    with asked(tenant, first, last, query, most=most, looked_at=looked_at) as cursor:
        rows = cursor.fetchall()
    found = [{"key": key, **sums(counted)} for key, _, *counted in rows]
    if rows and (rows[0][1] == NOBODY or (len(found) == most and found[-1]["total_tokens"] > rows[0][1])):
        return found
    groups = add_up(tenant, first, last, "user", most=most + 1).groups
    return [group for group in groups if group["key"] is not None][:most]


def of_all_tenants(
    first: dt.date, last: dt.date, bys: Sequence[str], most: int, *, biggest: int = BIGGEST
) -> dict[str, list[dict[str, Any]]]:
    """The groups of add_up(None, …, most=most) by "tenant", by "model" and by each of `bys`, which are of tenants."""
    of_all = add_up_by(None, first, last, ["tenant", "model"], most=max(biggest + 1, most))
    tenants = of_all["tenant"].groups
    found = {by: report.groups[:most] for by, report in of_all.items()}
    ids = [uuid.UUID(group["key"]) for group in tenants[:biggest]]
    at_most = tenants[biggest]["total_tokens"] if len(tenants) > biggest else NOBODY
    parts = add_up_by(None, first, last, bys, most=most, tenants=ids)
    if any(not _suffices(report, most, at_most) for report in parts.values()):
        parts = add_up_by(None, first, last, bys, most=most)
    return found | {by: report.groups for by, report in parts.items()}


def _suffices(report: Report, most: int, at_most: int) -> bool:
    groups = report.groups
    return at_most == NOBODY or (len(groups) == most and groups[-1]["total_tokens"] > at_most)
