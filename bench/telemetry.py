"""What looking costs: a scrape with a hundred tenants, and the log and traces of a flood of tokens."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import uvloop
from django.conf import settings
from django.test import AsyncClient, override_settings

from apps.conversations import metrics
from apps.tenants.metrics import label_of
from apps.tenants.models import Tenant
from apps.usage.metrics import TENANT_REFUSED
from bench.report import Row

TENANTS = 100
SCRAPES = 50


def tell_scrape() -> dict[str, float]:
    """Milliseconds of a scrape, of this process's counts and what all share, with every tenant named and counted."""
    names = [f"tenant-{number}" for number in range(TENANTS)]
    with override_settings(PARLEY_METRICS_TENANTS=frozenset(names)):
        for name in names:
            label = label_of(Tenant(slug=name))
            for state in ("finished", "failed", "interrupted", "stopped"):
                metrics.TENANT_TURNS.labels(label, state).inc()
            for kind in ("prompt", "completion"):
                metrics.TENANT_TOKENS.labels(label, kind).inc()
            TENANT_REFUSED.labels(label).inc()
        times = sorted(uvloop.run(_scrapes()))
    found = {"p50_ms": statistics.median(times), "p99_ms": times[int(len(times) * 0.99)]}
    print(f"A scrape with {TENANTS} tenants: {found['p50_ms']:.1f} ms at the median, {found['p99_ms']:.1f} at most")
    return found


async def _scrapes() -> list[float]:
    times = []
    for _ in range(SCRAPES):
        started = time.perf_counter()
        response = await AsyncClient().get("/metrics")
        assert response.status_code == 200
        times.append((time.perf_counter() - started) * 1000)
    return times


def tell_ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Streamed tokens for a second of CPU, as parts of what a process manages that neither logs nor traces."""
    of = {door: _tokens(rows, door) for door in ("silent ws", "parley ws", "traced ws")}
    found = {door.split()[0]: of[door] / of["silent ws"] for door in of}
    print(
        f"Tokens a CPU second, of a process that logs errors alone: {found['parley']:.1%} with the log,"
        f" {found['traced']:.1%} with the log and {settings.PARLEY_TRACED_PERCENT} % traced"
    )
    return found


def _tokens(rows: Sequence[Row], door: str) -> float:
    # Of whole runs, which differ less than what their middles show.
    return statistics.median(1e6 / row.cpu_us_a_token for row in rows if row.door == door)
