"""A restart of PostgreSQL ends the idle connections of both pools; finding that out costs one question each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from django.db import OperationalError, connection, connections

from apps.tenants import statements
from apps.tenants.scoping import unit

HELD = 4


async def by_statement() -> int:
    async with statements.transaction() as held:
        row = await (await held.execute("SELECT pg_backend_pid(), pg_sleep(0.1)")).fetchone()
        assert row is not None
        return int(row[0])


def ask() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), pg_sleep(0.1)")
        return int(cursor.fetchone()[0])


async def by_unit() -> int:
    return await unit(ask)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("query", [by_statement, by_unit])
async def test_one_question_finds_out(database: None, query: Callable[[], Awaitable[int]]) -> None:
    held = set(await asyncio.gather(*(query() for _ in range(HELD))))
    assert len(held) == HELD
    parameters = connections["default"].get_connection_params()
    server = {name: parameters[name] for name in ("host", "port", "dbname", "user", "password")}
    with psycopg.connect(**server) as other:
        other.execute("SELECT pg_terminate_backend(pid, 1000) FROM unnest(%s) AS pid", (list(held),))
    with pytest.raises(OperationalError):
        await query()
    fresh = set(await asyncio.gather(*(query() for _ in range(HELD))))
    assert len(fresh) == HELD
    assert not fresh & held
