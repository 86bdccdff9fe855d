"""The SQL that adds days and months up. Each statement stays within one tenant, in whose scope it runs."""

# ruff: noqa: S608 - all names are ours

from __future__ import annotations

LOCK = "SELECT pg_advisory_xact_lock(1431519559, hashtext(%(tenant)s::text))"

# The tenant's first day with any use; none before it holds anything.
_FIRST = """
    SELECT (min(created) AT TIME ZONE t.time_zone)::date AS day FROM usage_usagerecord WHERE tenant_id = t.id
"""
# The latest first: they are asked for most. A day with a turn that is not settled waits for it. When days begin is
# reckoned by itself: no condition with a function in it reaches the ledger's index through row-level security.
_IS_CLOSED = """
    d.ends <= %(now)s - %(grace)s AND NOT EXISTS (
        SELECT FROM usage_usagerecord u
        WHERE u.tenant_id = %(tenant)s AND u.state = 'reserved' AND u.created >= d.starts AND u.created < d.ends)
"""
OPEN_DAYS = f"""
    WITH d AS MATERIALIZED (
        SELECT first.day + n AS day, usage_day_start(first.day + n, t.time_zone) AS starts,
            usage_day_start(first.day + n + 1, t.time_zone) AS ends
        FROM tenants_tenant t
        CROSS JOIN LATERAL ({_FIRST}) first
        CROSS JOIN generate_series(0, (%(now)s AT TIME ZONE t.time_zone)::date - first.day) AS n
        LEFT JOIN usage_rolledday r ON r.tenant_id = t.id AND r.day = first.day + n AND r.zone = t.time_zone
        WHERE t.id = %(tenant)s AND r.id IS NULL
    )
    SELECT day FROM d WHERE {_IS_CLOSED} ORDER BY day DESC LIMIT %(limit)s
"""

_SUMS = "requests, once, delivered, loss, none, prompt_tokens, completion_tokens, pages, cost"
_ASKED = "kind <> 'ingestion'"  # a step of a document is nobody's request
_ADDED = ", ".join(f"sum({name})" for name in _SUMS.split(", "))
_D = """
    WITH d AS MATERIALIZED (
        SELECT given.day, t.time_zone AS zone, usage_day_start(given.day, t.time_zone) AS starts,
            usage_day_start(given.day + 1, t.time_zone) AS ends
        FROM tenants_tenant t CROSS JOIN unnest(%(days)s::date[]) AS given(day)
        WHERE t.id = %(tenant)s
    )
"""
CLOSED = f"{_D} SELECT day FROM d WHERE {_IS_CLOSED}"
# Named, so that the index on by, day and tenant serves.
_BY = "by IN ('assistant', 'key', 'client', 'model', 'kind')"
FORGET_DAYS = (
    *(
        f"DELETE FROM {table} WHERE tenant_id = %(tenant)s AND day = ANY(%(days)s::date[])"
        for table in ("usage_rolledday", "usage_dailyusagebyuser", "usage_dailyuser")
    ),
    f"DELETE FROM usage_dailyuse WHERE tenant_id = %(tenant)s AND day = ANY(%(days)s::date[]) AND {_BY}",
    "DELETE FROM usage_rolledmonth WHERE tenant_id = %(tenant)s AND day = ANY(%(months)s::date[])",
)
_ALL = "kind, assistant_id, api_key_id, oauth_client_id, model, end_user_id"
# Day by day, so that no more than one day's groups are in memory.
_ADD_UP_ALL = f"""
    INSERT INTO usage_dailyusagebyuser (id, tenant_id, day, {_ALL}, {_SUMS})
    {_D}
    SELECT gen_random_uuid(), %(tenant)s, d.day, u.* FROM d CROSS JOIN LATERAL (
        SELECT {_ALL}, count(*) FILTER (WHERE {_ASKED}), count(*) FILTER (WHERE bill = 'once' AND {_ASKED}),
            count(*) FILTER (WHERE bill = 'delivered' AND {_ASKED}), count(*) FILTER (WHERE bill = 'loss' AND {_ASKED}),
            count(*) FILTER (WHERE bill = 'none' AND {_ASKED}), sum(prompt_tokens), sum(completion_tokens), sum(pages),
            sum(cost)
        FROM usage_usagerecord
        WHERE tenant_id = %(tenant)s AND created >= d.starts AND created < d.ends
        GROUP BY {_ALL}
        OFFSET 0
    ) u
"""
# Of the columns that a row is not grouped by, each is null.
_ADD_UP_USE = f"""
    INSERT INTO usage_dailyuse (id, tenant_id, day, by, what_id, what, {_SUMS})
    SELECT gen_random_uuid(), tenant_id, day,
        CASE GROUPING(assistant_id, api_key_id, oauth_client_id, model, kind)
            WHEN 15 THEN 'assistant' WHEN 23 THEN 'key' WHEN 27 THEN 'client' WHEN 29 THEN 'model' ELSE 'kind' END,
        coalesce(assistant_id, api_key_id, oauth_client_id), coalesce(model, kind, ''), {_ADDED}
    FROM usage_dailyusagebyuser WHERE tenant_id = %(tenant)s AND day = ANY(%(days)s::date[])
    GROUP BY tenant_id, day, GROUPING SETS (assistant_id, api_key_id, oauth_client_id, model, kind)
"""
_ADD_UP_USERS = f"""
    INSERT INTO usage_dailyuser (id, tenant_id, day, end_user_id, {_SUMS})
    SELECT gen_random_uuid(), tenant_id, day, end_user_id, {_ADDED}
    FROM usage_dailyusagebyuser WHERE tenant_id = %(tenant)s AND day = ANY(%(days)s::date[])
    GROUP BY tenant_id, day, end_user_id
"""
_MARK_DAYS = f"""
    INSERT INTO usage_rolledday (id, tenant_id, day, zone, starts, ends, used, {_SUMS})
    {_D}
    SELECT gen_random_uuid(), %(tenant)s, d.day, d.zone, d.starts, d.ends, count(u.id) > 0,
        {", ".join(f"coalesce(sum({name}), 0)" for name in _SUMS.split(", "))}
    FROM d LEFT JOIN usage_dailyuse u ON u.tenant_id = %(tenant)s AND u.by = 'kind' AND u.day = d.day
    GROUP BY d.day, d.zone, d.starts, d.ends
"""
ADD_UP_DAYS = (_ADD_UP_ALL, _ADD_UP_USE, _ADD_UP_USERS, _MARK_DAYS)

# A month of days that are rolled up in the tenant's zone, from its first use on: there may be more in front of it.
OPEN_MONTHS = f"""
    SELECT of.month FROM tenants_tenant t
    CROSS JOIN LATERAL ({_FIRST}) first
    CROSS JOIN LATERAL (
        SELECT date_trunc('month', r.day)::date AS month, count(*) AS days FROM usage_rolledday r
        WHERE r.tenant_id = t.id AND r.zone = t.time_zone AND r.day >= first.day GROUP BY 1
    ) of
    LEFT JOIN usage_rolledmonth m ON m.tenant_id = t.id AND m.day = of.month AND m.zone = t.time_zone
    WHERE t.id = %(tenant)s AND m.id IS NULL
        AND of.days = (of.month + interval '1 month')::date - greatest(of.month, first.day)
"""
FORGET_MONTH = (
    "DELETE FROM usage_rolledmonth WHERE tenant_id = %(tenant)s AND day = %(month)s",
    "DELETE FROM usage_monthlyuser WHERE tenant_id = %(tenant)s AND day = %(month)s",
    f"DELETE FROM usage_monthlyuse WHERE tenant_id = %(tenant)s AND day = %(month)s AND {_BY}",
)
MARK_MONTH = f"""
    INSERT INTO usage_rolledmonth (id, tenant_id, day, zone, starts, ends, used, {_SUMS})
    SELECT gen_random_uuid(), t.id, %(month)s, t.time_zone, usage_day_start(%(month)s, t.time_zone),
        usage_day_start(%(next)s, t.time_zone), used, {_SUMS}
    FROM tenants_tenant t
    CROSS JOIN LATERAL ({_FIRST}) first
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE r.day >= first.day) AS days, bool_or(used) AS used,
            {", ".join(f"sum({name}) AS {name}" for name in _SUMS.split(", "))}
        FROM usage_rolledday r
        WHERE r.tenant_id = t.id AND r.zone = t.time_zone AND r.day >= %(month)s AND r.day < %(next)s
    ) of
    WHERE t.id = %(tenant)s AND of.days > 0 AND of.days = %(next)s::date - greatest(%(month)s::date, first.day)
"""
_DAYS_OF_MONTH = """
    FROM {} u JOIN usage_rolledday r ON r.tenant_id = u.tenant_id AND r.day = u.day
    JOIN usage_rolledmonth m ON m.tenant_id = u.tenant_id AND m.day = %(month)s AND m.zone = r.zone
    WHERE u.tenant_id = %(tenant)s AND u.day >= %(month)s AND u.day < %(next)s
"""
_ADDED_OF_U = ", ".join(f"sum(u.{name})" for name in _SUMS.split(", "))
ADD_UP_MONTH = (
    f"""
    INSERT INTO usage_monthlyuse (id, tenant_id, day, by, what_id, what, {_SUMS})
    SELECT gen_random_uuid(), u.tenant_id, %(month)s, u.by, u.what_id, u.what, {_ADDED_OF_U}
    {_DAYS_OF_MONTH.format("usage_dailyuse")} AND u.{_BY}
    GROUP BY u.tenant_id, u.by, u.what_id, u.what
    """,
    f"""
    INSERT INTO usage_monthlyuser (id, tenant_id, day, end_user_id, {_SUMS})
    SELECT gen_random_uuid(), u.tenant_id, %(month)s, u.end_user_id, {_ADDED_OF_U}
    {_DAYS_OF_MONTH.format("usage_dailyuser")}
    GROUP BY u.tenant_id, u.end_user_id
    """,
)
