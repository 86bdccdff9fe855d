"""What a tenant's scope adds to a query of one row: through the ORM, and in plain SQL on the event loop."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import uvloop
from django.db import connection, transaction

from apps.tenants import statements
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from tests.all_tenants import NOBODY

ROUNDS = 3_000
# What a test cluster's own policy asks for, since outside a scope the row would be an error.
OUTSIDE = f"SELECT set_config('app.tests', 'on', false), set_config('app.tenant', '{NOBODY}', false)"
ROW = "SELECT slug FROM tenants_tenant WHERE id = %s"


def measure() -> dict[str, dict[str, float]]:
    """By way of asking, milliseconds."""
    tenant = Tenant(slug="scope", name="Scope")
    with tenant_scope(tenant):
        tenant.save()

    def ask() -> None:
        with connection.cursor() as cursor:
            cursor.execute(ROW, [tenant.pk])
            assert cursor.fetchone()

    # Taken in turns, so that what else the machine does disturbs them alike.
    orm = _in_turns(
        {
            "a query alone": lambda: _timed(ask, _shown()),
            "in a transaction": lambda: _timed(ask, _shown(), transaction.atomic()),
            "in a scope": lambda: _timed(ask, nullcontext(), tenant_scope(tenant)),
        }
    )
    connection.close()
    return orm | uvloop.run(_on_the_loop(tenant))


@contextmanager
def _shown() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(OUTSIDE)
    yield
    with connection.cursor() as cursor:
        cursor.execute("RESET app.tenant; RESET app.tests")


def _timed(
    ask: Callable[[], None], prepared: AbstractContextManager[None], unit: AbstractContextManager[None] | None = None
) -> float:
    with prepared:
        started = time.perf_counter()
        with unit or nullcontext():
            ask()
        return time.perf_counter() - started


def _in_turns(ways: dict[str, Callable[[], float]]) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            times[name].append(way())
    return {name: _summary(seconds) for name, seconds in times.items()}


async def _on_the_loop(tenant: Tenant) -> dict[str, dict[str, float]]:
    pool = await statements._pool()

    async def in_a_transaction() -> None:
        async with pool.transaction("") as held:
            await (await held.execute(ROW, [tenant.pk])).fetchone()

    async def in_a_scope() -> None:
        async with statements.transaction(tenant) as held:
            assert await (await held.execute(ROW, [tenant.pk])).fetchone()

    async with pool.transaction(OUTSIDE):
        pass  # the pool has one connection, and gives it out again
    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "plain SQL in a transaction": in_a_transaction,
        "plain SQL in a scope": in_a_scope,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            await way()
            times[name].append(time.perf_counter() - started)
            await asyncio.sleep(0)
    return {name: _summary(seconds) for name, seconds in times.items()}


def _summary(seconds: list[float]) -> dict[str, float]:
    settled = sorted(seconds[ROUNDS // 10 :])
    return {"p50": 1000 * statistics.median(settled), "p99": 1000 * settled[int(0.99 * len(settled))]}


def tell() -> None:
    print("milliseconds for one row".ljust(30), "p50".rjust(7), "p99".rjust(7))
    for name, figures in measure().items():
        print(name.ljust(30), *(f"{figures[key]:7.3f}" for key in ("p50", "p99")), flush=True)
