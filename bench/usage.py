"""How long the usage page, the ledger's list and GET /api/v1/usage take over a year's ledger of ten million rows.

BENCH_ROWS=1000000 makes a smaller one. bench/year.py says what is in it. Its PostgreSQL is a temporary one, and goes
with the process.
"""

from __future__ import annotations

import datetime as dt
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from apps.tenants.models import Membership, Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage import rollups
from bench import year
from bench.report import percentile
from tests import factories
from tests.environment import Backends

ROWS = int(os.environ.get("BENCH_ROWS", "10000000"))
ROUNDS = 20
TARGET_MS = 300
PERIODS = ("month", "last_month", "30", "90", "365")
GROUPS = ("day", "assistant", "key", "client", "model", "kind", "user")
ROLL_UPS = ("rolledday", "rolledmonth", "dailyuse", "monthlyuse", "dailyuser", "monthlyuser", "dailyusagebyuser")
Asked = dict[str, Callable[[], Any]]

_ALONE = """
    SELECT (created AT TIME ZONE 'UTC')::date, count(*), sum(prompt_tokens + completion_tokens), sum(cost)
    FROM usage_usagerecord WHERE tenant_id = %s AND created > now() - interval '365 days' GROUP BY 1
"""


def tell(servers: Backends) -> dict[str, Any]:
    """Print milliseconds of whole requests, from the address to the last byte, in this process."""
    print(f"\n{ROWS:,} rows of the ledger, {year.TENANTS} tenants, a year", flush=True)
    tenants, loaded = _timed(lambda: year.load(servers, ROWS))
    print(f"loaded in {loaded:.0f} s", flush=True)
    before = _most_mib()
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '30s'")  # as in the worker
        days, rolled = _timed(lambda: rollups.roll_up(seconds=float("inf")))
        cursor.execute("RESET statement_timeout")
    grown = _most_mib() - before
    print(f"{days:,} days rolled up in {rolled:.0f} s, {ROWS / rolled:,.0f} rows a second, {grown:.0f} MiB", flush=True)
    servers.superuser.execute("VACUUM ANALYZE")
    sizes = {name: _count(servers, f"usage_{name}") for name in ROLL_UPS}
    print("roll-ups: " + ", ".join(f"{count:,} in {name}" for name, count in sizes.items()))
    with tenant_scope(tenants[0]), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        _, alone = _timed(lambda: cursor.execute(_ALONE, [tenants[0].pk]))
    print(f"the ledger alone, the biggest tenant's year by day: {1000 * alone:,.0f} ms")
    figures = measure(tenants)
    tell_figures(figures)
    return {
        "rows": ROWS,
        "rollups": sizes,
        "rolled_up_s": rolled,
        "rolling_up_mib": grown,
        "ledger_alone_ms": 1000 * alone,
        "p50": {name: statistics.median(took) for name, took in figures.items()},
        "p95": {name: percentile(took, 95) for name, took in figures.items()},
    }


def tell_figures(figures: dict[str, list[float]]) -> None:
    print(f"\n{'milliseconds':44} {'p50':>8} {'p95':>8}")
    for name, took in figures.items():
        above = "" if percentile(took, 95) < TARGET_MS else f"  above {TARGET_MS}"
        print(f"{name:44} {statistics.median(took):8.0f} {percentile(took, 95):8.0f}{above}", flush=True)


def measure(tenants: list[Tenant], rounds: int = ROUNDS, only: str = "") -> dict[str, list[float]]:
    """By what is asked, milliseconds; what took more than its budget is no answer and takes forever."""
    asked = {name: ask for name, ask in (pages(tenants) | reports(tenants[0])).items() if only in name}
    figures: dict[str, list[float]] = {name: [] for name in asked}
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    with override_settings(
        STORAGES={"default": {"BACKEND": "django.core.files.storage.InMemoryStorage"}, "staticfiles": plain}
    ):
        for number in range(rounds + 1):
            for name, ask in asked.items():
                answer, seconds = _timed(ask)
                if number:  # the first fills caches
                    figures[name].append(1000 * seconds if answer.status_code == 200 else float("inf"))
    return figures


def pages(tenants: list[Tenant]) -> Asked:
    """The usage page and the ledger's list, of the biggest tenant, of a small one and of all; and tables to take."""
    operator = client(factories.make_user(f"usage-{time.time_ns()}@example.com", is_superuser=True))
    analysts = {
        "the biggest tenant": client(factories.make_member(tenant=tenants[0], role=Membership.Role.ANALYST)),
        "a small tenant": client(factories.make_member(tenant=tenants[-1], role=Membership.Role.ANALYST)),
    }
    page, export = reverse("admin:usage_overview"), reverse("admin:usage_export")
    ledger = reverse("admin:usage_usagerecord_changelist")
    asked: Asked = {}
    for name, person in (analysts | {"all tenants": operator}).items():
        for period in PERIODS:
            asked[f"page, {name}, {period}"] = lambda person=person, period=period: person.get(page, {"period": period})
        for period in ("today", "30", "90"):
            query = {"period": period}
            asked[f"ledger, {name}, {period}"] = lambda person=person, query=query: person.get(ledger, query)
        query = {"period": "90", "bill__exact": "once"}
        asked[f"ledger, {name}, billed in 90 days"] = lambda person=person, query=query: person.get(ledger, query)
    for by in ("day", "assistant", "user"):
        query = {"period": "365", "by": by}
        asked[f"CSV, the biggest tenant, a year by {by}"] = lambda query=query: analysts["the biggest tenant"].get(
            export, query
        )
    for by in ("tenant", "assistant"):
        query = {"period": "365", "by": by}
        asked[f"CSV, all tenants, a year by {by}"] = lambda query=query: operator.get(export, query)
    return asked


def reports(tenant: Tenant) -> Asked:
    """GET /api/v1/usage."""
    anybody = Client(SERVER_NAME="127.0.0.1", raise_request_exception=False)
    program = {"Authorization": f"Bearer {factories.make_key(tenant=tenant)}"}
    today = timezone.now().date()
    spans = {
        "a day": {"from": str(today - dt.timedelta(days=3)), "to": str(today - dt.timedelta(days=3))},
        "30 days": {},
        "a year": {"from": str(today - dt.timedelta(days=364)), "to": str(today)},
    }
    asked: Asked = {}
    for span, dates in spans.items():
        for by in GROUPS:
            query = {"group_by": by} | dates
            asked[f"API, {span} by {by}"] = lambda query=query: anybody.get("/api/v1/usage", query, headers=program)
        query = {"group_by": "model", "user": "person-0"} | dates
        asked[f"API, {span} of a user by model"] = lambda query=query: anybody.get(
            "/api/v1/usage", query, headers=program
        )
    return asked


def client(user: Any) -> Client:
    person = Client(SERVER_NAME="127.0.0.1", raise_request_exception=False)
    person.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return person


def _count(servers: Backends, table: str) -> int:
    return int(servers.superuser.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # type: ignore[index]


def _most_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started
