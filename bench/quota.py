"""What limits add to a question: reserving before it and settling after it, on the real Redis.

One after the other for the time that each takes, and many at once for how many this process does in a second of its
CPU. Seven limits hold, over tenant, key and end user, of all kinds of windows.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, Final

import uvloop

from apps.edge.shared_state import redis
from apps.tenants.models import EndUser, Tenant
from apps.usage import limits, meter
from apps.usage.limit_models import PlanLimit
from apps.usage.limits import Accounts, Limits, accounts_of
from bench.report import percentile
from chatbot.quota import Amounts
from tests.environment import Backends

TIMES: Final = 5_000
AT_ONCE, SECONDS = 32, 5.0
LIMITS: Final = (
    ("tenant", "requests", "minute"),
    ("tenant", "tokens", "day"),
    ("tenant", "tokens", "month"),
    ("tenant", "cost", "month"),
    ("tenant", "turns", "once"),
    ("key", "requests", "hour"),
    ("user", "tokens", "day"),
)
TARGETS: Final = {"p50_ms": 1.0, "p99_ms": 3.0, "a_second": 2_000}
ASKED, USED = Amounts(requests=1, tokens=1_500, cost=10_000, turns=1), Amounts(requests=1, tokens=900, cost=6_000)


def tell(servers: Backends) -> dict[str, Any]:
    """Measure and print; gives the figures."""
    servers.empty_redis()
    tenant = Tenant(slug="bench", name="Bench")
    rows = [
        PlanLimit(level=level, metric=metric, window=window, amount=Decimal(10**9)) for level, metric, window in LIMITS
    ]
    limits._known[tenant.pk] = Limits("bench", rows, (), ()), math.inf
    accounts = accounts_of(
        assistant_id=uuid.uuid4(),
        api_key_id=uuid.uuid4(),
        oauth_client_id=None,
        end_user=EndUser(tenant=tenant, external_id="somebody"),
        scope="chat:write",
    )
    figures = uvloop.run(_measure(tenant, accounts))
    print(f"\n{'quota, ms':24} {'p50':>8} {'p99':>8}")
    for name in ("reserve", "settle", "both", "PING"):
        print(f"{name:24} {figures[name]['p50']:8.2f} {figures[name]['p99']:8.2f}")
    print(f"reservations: {figures['a_second']:,.0f} a CPU-second, {figures['a_wall_second']:,.0f} a second")
    for name, value, target in (
        ("both, p50 ms", figures["both"]["p50"], TARGETS["p50_ms"]),
        ("both, p99 ms", figures["both"]["p99"], TARGETS["p99_ms"]),
    ):
        print(f"{'reached' if value <= target else 'MISSED':8} {name}: {value:.2f}, target {target:.2f}")
    well = figures["a_second"] >= TARGETS["a_second"]
    print(f"{'reached' if well else 'MISSED':8} reservations a CPU-second, target {TARGETS['a_second']:,}")
    return figures


async def _measure(tenant: Tenant, accounts: Accounts) -> dict[str, Any]:
    client = await redis()

    async def timed(work: Callable[[], Awaitable[Any]]) -> float:
        began = time.perf_counter()
        await work()
        return (time.perf_counter() - began) * 1000

    reserved, settled, bare = [], [], []
    for _ in range(TIMES):
        question = uuid.uuid4()
        reserved.append(await timed(lambda: meter.reserve(tenant, question, accounts, ASKED)))  # noqa: B023
        settled.append(await timed(lambda: meter.settle(tenant, question, USED)))  # noqa: B023
        bare.append(await timed(client.ping))
    count, until = 0, time.perf_counter() + SECONDS

    async def again() -> None:
        nonlocal count
        while time.perf_counter() < until:
            await meter.reserve(tenant, uuid.uuid4(), accounts, ASKED)
            count += 1

    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(again() for _ in range(AT_ONCE)))
    spent, passed = time.process_time() - cpu, time.perf_counter() - began
    both = [one + other for one, other in zip(reserved, settled, strict=True)]
    return {
        **{
            name: {"p50": percentile(took, 50), "p99": percentile(took, 99)}
            for name, took in (("reserve", reserved), ("settle", settled), ("both", both), ("PING", bare))
        },
        "a_second": count / spent,
        "a_wall_second": count / passed,
    }
