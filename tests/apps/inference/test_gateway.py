"""The endpoints as a process knows them: read once for all who ask, and known on while they cannot be read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

import pytest
from django.db import OperationalError

from apps.inference import gateway
from apps.tenants.scoping import platform_unit
from chatbot.inference.endpoint import Endpoint
from tests import factories


async def test_a_crowd_reads_them_once(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    refresh = gateway.refresh
    monkeypatch.setattr(gateway, "refresh", lambda: (reads.append(1), refresh()))
    gateway.forget()
    await asyncio.gather(*(gateway.pool() for _ in range(100)))
    assert len(reads) == 1


async def test_one_that_gives_up_takes_nobody_with_it(database: None) -> None:
    gateway.forget()
    first, second = asyncio.create_task(gateway.pool()), asyncio.create_task(gateway.pool())
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None
    assert first.cancelled()


async def test_a_change_that_is_told_while_they_are_read_is_not_overlooked(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_read, told = threading.Event(), threading.Event()
    replace = gateway._pool.replace

    def slow_replace(endpoints: Iterable[Endpoint]) -> None:
        replace(endpoints)
        has_read.set()
        assert told.wait(60)

    monkeypatch.setattr(gateway._pool, "replace", slow_replace)
    gateway.forget()
    reading = asyncio.create_task(gateway.pool())
    await asyncio.to_thread(has_read.wait)
    endpoint = await platform_unit(factories.make_endpoint)
    gateway.forget()
    told.set()
    await reading
    assert str(endpoint.pk) in {state.endpoint for state in (await gateway.pool()).states()}


async def test_without_a_database_those_known_are_asked(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = await platform_unit(factories.make_endpoint)
    gateway.forget()
    await gateway.pool()

    def away() -> None:
        raise OperationalError

    monkeypatch.setattr(gateway, "refresh", away)
    gateway.forget()
    pool = await gateway.pool()
    assert str(endpoint.pk) in {state.endpoint for state in pool.states()}
    monkeypatch.setattr(gateway, "_known", [])
    with pytest.raises(OperationalError):
        await gateway.pool()
