"""How long the usage page and GET /api/v1/usage take over a year's ledger of ten million rows.

BENCH_ROWS=1000000 makes a smaller one. Rows are spread over the year and over tenants of different sizes; each has
thousands of end users, of whom a few ask much and most ask little.
"""

from __future__ import annotations

import datetime as dt
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from apps.tenants.models import ApiKey, Membership, Tenant
from apps.usage import rollups
from bench.report import percentile
from tests import factories
from tests.environment import Backends

ROWS = int(os.environ.get("BENCH_ROWS", "10000000"))
SLICE = 500_000
TENANTS = 8
USERS = 2_000  # of each
ASSISTANTS = 6
KEYS = 4
ROUNDS = 20
TARGET_MS = 300
PERIODS = ("month", "30", "90", "365")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo")

# Ids are made of what they are and a number, so that rows can name each other without being looked up.
_PEOPLE = """
    INSERT INTO tenants_enduser (id, tenant_id, external_id, created)
    SELECT md5('user' || t.place || '-' || n)::uuid, t.id, 'person-' || n, now() - interval '1 year'
    FROM unnest(%s::uuid[]) WITH ORDINALITY AS t(id, place), generate_series(0, %s - 1) AS n
"""
_LEDGER = """
    INSERT INTO usage_usagerecord (id, tenant_id, turn_id, kind, assistant_id, end_user_id, api_key_id, oauth_client_id,
        endpoint_id, model, state, bill, prompt_tokens, completion_tokens, estimated, cost, reserved_tokens,
        reserved_cost, created, settled_at)
    SELECT uuidv7(), (%(tenants)s::uuid[])[tenant], uuidv7(), 'turn',
        md5('assistant' || tenant || '-' || floor(%(assistants)s * power(random(), 2)))::uuid,
        md5('user' || tenant || '-' || floor(%(users)s * power(random(), 3)))::uuid,
        CASE WHEN with_key THEN md5('key' || tenant || '-' || floor(%(keys)s * random()))::uuid END,
        CASE WHEN NOT with_key THEN md5('client' || tenant)::uuid END,
        endpoint, model, 'settled', bill,
        CASE WHEN billed THEN 1500 + floor(1000 * random()) ELSE 0 END,
        CASE WHEN billed THEN 50 + floor(300 * random()) ELSE 0 END,
        false, CASE WHEN billed THEN 0.001 + 0.001 * random() ELSE 0 END, 0, 0, created, created + interval '4 s'
    FROM (
        SELECT *, bill IN ('once', 'delivered') AS billed, (%(endpoints)s::uuid[])[served] AS endpoint,
            (ARRAY['large', 'small', 'old'])[served] AS model
        FROM (
            SELECT 1 + floor(%(count)s * power(random(), 2))::int AS tenant, random() < 0.8 AS with_key,
                1 + floor(3 * power(random(), 2))::int AS served,
                CASE WHEN random() < 0.95 THEN 'once' ELSE (ARRAY['delivered', 'loss', 'none'])[1 + floor(3 * random())]
                END AS bill,
                now() - interval '365 days' * (1 - (%(first)s + n) / %(rows)s::float) AS created
            FROM generate_series(1, %(slice)s) AS n
        ) drawn
    ) given
"""
_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'usage_usagerecord'
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname)
"""
_ALONE = """
    SELECT (created AT TIME ZONE 'UTC')::date, count(*), sum(prompt_tokens + completion_tokens), sum(cost)
    FROM usage_usagerecord WHERE tenant_id = %s AND created > now() - interval '365 days' GROUP BY 1
"""


def tell(servers: Backends) -> dict[str, Any]:
    """Print milliseconds of whole requests, from the address to the last byte, in this process."""
    print(f"\n{ROWS:,} rows of the ledger, {TENANTS} tenants with {USERS:,} end users each, a year", flush=True)
    tenants, loaded = _timed(lambda: load(servers))
    days, rolled = _timed(lambda: rollups.roll_up(seconds=float("inf")))
    servers.superuser.execute("VACUUM ANALYZE")
    sizes = {
        name: servers.superuser.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # type: ignore[index]
        for name in ("usage_dailyusage", "usage_dailyusagebyuser", "usage_dailyuser")
    }
    print(f"loaded in {loaded:.0f} s, {days:,} days rolled up in {rolled:.0f} s ({1000 * rolled / days:.0f} ms each)")
    print("roll-ups: " + ", ".join(f"{count:,} in {name}" for name, count in sizes.items()))
    biggest = tenants[0]
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        _, alone = _timed(lambda: cursor.execute(_ALONE, [biggest.pk]))
        cursor.execute("RESET statement_timeout")
    print(f"the ledger alone, the biggest tenant's year by day: {1000 * alone:,.0f} ms")
    figures = measure(biggest)
    print(f"\n{'milliseconds':44} {'p50':>8} {'p95':>8}")
    for name, took in figures.items():
        above = "" if percentile(took, 95) < TARGET_MS else f"  above {TARGET_MS}"
        print(f"{name:44} {statistics.median(took):8.0f} {percentile(took, 95):8.0f}{above}", flush=True)
    return {
        "rows": ROWS,
        "rollups": sizes,
        "ms_a_day_rolled_up": 1000 * rolled / days,
        "ledger_alone_ms": 1000 * alone,
        "p50": {name: statistics.median(took) for name, took in figures.items()},
        "p95": {name: percentile(took, 95) for name, took in figures.items()},
    }


def load(servers: Backends) -> list[Tenant]:
    """Tenants, the biggest first."""
    tenants = [factories.make_tenant(f"usage-{n}", time_zone=ZONES[n % len(ZONES)]) for n in range(TENANTS)]
    endpoints = [factories.make_endpoint(name=f"usage {name}", model=name) for name in ("large", "small", "old")]
    _name_programs(servers, tenants)
    execute = servers.superuser.execute
    ids = [tenant.pk for tenant in tenants]
    execute(_PEOPLE, (ids, USERS))
    indexes = execute(_INDEXES).fetchall()
    for name, _ in indexes:
        execute(f"DROP INDEX {name}")
    given = {"tenants": ids, "endpoints": [each.pk for each in endpoints], "count": TENANTS, "users": USERS}
    given |= {"assistants": ASSISTANTS, "keys": KEYS, "rows": ROWS}
    for first in range(0, ROWS, SLICE):
        execute(_LEDGER, given | {"first": first, "slice": min(SLICE, ROWS - first)})
        print(f"  {min(first + SLICE, ROWS):,} rows", flush=True)
    for _, definition in indexes:
        execute(definition)
    execute("VACUUM ANALYZE")
    return tenants


def _name_programs(servers: Backends, tenants: list[Tenant]) -> None:
    for place, tenant in enumerate(tenants, start=1):
        prompt = factories.make_prompt(tenant=tenant)
        for n in range(ASSISTANTS):
            factories.make_assistant(tenant=tenant, prompt=prompt, id=_id(servers, f"assistant{place}-{n}"))
        for n in range(KEYS):
            text = factories.make_key(tenant=tenant, name=f"Program {n}")
            key = ApiKey.objects.get(key_id=text.split("_")[1])
            ApiKey.objects.filter(pk=key.pk).update(id=_id(servers, f"key{place}-{n}"))


def _id(servers: Backends, text: str) -> Any:
    return servers.superuser.execute("SELECT md5(%s)::uuid", (text,)).fetchone()[0]  # type: ignore[index]


def measure(tenant: Tenant) -> dict[str, list[float]]:
    """By what is asked, milliseconds."""
    analyst, operator = (Client(SERVER_NAME="127.0.0.1", raise_request_exception=False) for _ in range(2))
    backend = "django.contrib.auth.backends.ModelBackend"
    analyst.force_login(factories.make_member(tenant=tenant, role=Membership.Role.ANALYST), backend=backend)
    operator.force_login(factories.make_user("usage@example.com", is_superuser=True), backend=backend)
    program = {"Authorization": f"Bearer {factories.make_key(tenant=tenant)}"}
    page, today = reverse("admin:usage_overview"), timezone.now().date()
    year = {"from": str(today - dt.timedelta(days=364)), "to": str(today)}
    asked: dict[str, Callable[[], Any]] = {}
    for period in PERIODS:
        asked[f"page, the biggest tenant, {period}"] = lambda period=period: analyst.get(page, {"period": period})
    for period in PERIODS:
        asked[f"page, all tenants, {period}"] = lambda period=period: operator.get(page, {"period": period})
    for by in ("day", "assistant", "key", "client", "model", "kind", "user"):
        query = {"group_by": by}
        asked[f"API, 30 days by {by}"] = lambda query=query: operator.get("/api/v1/usage", query, headers=program)
        whole = query | year
        asked[f"API, a year by {by}"] = lambda query=whole: operator.get("/api/v1/usage", query, headers=program)
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    figures: dict[str, list[float]] = {name: [] for name in asked}
    with override_settings(
        STORAGES={"default": {"BACKEND": "django.core.files.storage.InMemoryStorage"}, "staticfiles": plain}
    ):
        for number in range(ROUNDS + 1):
            for name, ask in asked.items():
                answer, seconds = _timed(ask)
                if number:  # the first fills caches
                    # What took more than its budget is no answer.
                    figures[name].append(1000 * seconds if answer.status_code == 200 else float("inf"))
    return figures


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started
