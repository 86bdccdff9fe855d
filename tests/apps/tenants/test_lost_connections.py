"""A restart of PostgreSQL ends the idle connections of both pools: it costs one ORM unit, and no plain statement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from django.conf import settings
from django.db import OperationalError, connection, connections

from apps.tenants import statements
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit

HELD = 4


async def by_statement() -> int:
    async with statements.transaction(Tenant()) as held:
        row = await (await held.execute("SELECT pg_backend_pid(), pg_sleep(0.2)")).fetchone()
        assert row is not None
        return int(row[0])


def ask() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), pg_sleep(0.2)")
        return int(cursor.fetchone()[0])


async def by_unit() -> int:
    return await platform_unit(ask)


async def restarted(query: Callable[[], Awaitable[int]]) -> set[int]:
    """Use a few connections at once and have the server end them."""
    held: set[int] = set()
    while len(held) < 2:  # a pool that is slow to grow may have one for all
        held |= set(await asyncio.gather(*(query() for _ in range(HELD))))
    parameters = connections["default"].get_connection_params()
    server = {name: parameters[name] for name in ("host", "port", "dbname", "user", "password")}
    with psycopg.connect(**server) as other:
        other.execute("SELECT pg_terminate_backend(pid, 1000) FROM unnest(%s) AS pid", (list(held),))
    return held


async def test_one_unit_finds_out(database: None) -> None:
    connections["default"].close_pool()  # type: ignore[attr-defined]  # no other test's connection shall answer
    held = await restarted(by_unit)
    with pytest.raises(OperationalError):
        await by_unit()
    fresh = set(await asyncio.gather(*(by_unit() for _ in range(HELD))))
    assert not fresh & held


async def test_no_statement_fails(database: None) -> None:
    held = await restarted(by_statement)
    fresh = set(await asyncio.gather(*(by_statement() for _ in range(HELD))))
    assert not fresh & held


def test_a_loop_ends_whatever_became_of_its_connections(database: None) -> None:
    asyncio.run(restarted(by_statement))

    async def lost_in_mid_transaction() -> None:
        async with statements.transaction(Tenant()) as connection:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(OperationalError):
        asyncio.run(lost_in_mid_transaction())


async def test_a_cancelled_query_leaves_its_connection_whole_or_nowhere(database: None) -> None:
    for _ in range(10):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await by_statement()
        assert await by_statement() > 0
    pool = await statements._pool()
    assert len(pool._idle) <= 2


async def test_connections_are_never_more_than_allowed_and_nobody_is_forgotten(database: None) -> None:
    asked = [asyncio.ensure_future(by_statement()) for _ in range(40)]
    backends = set(await asyncio.gather(*asked))
    assert len(backends) <= settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
