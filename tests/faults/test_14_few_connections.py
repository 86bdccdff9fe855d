"""Row 14: PostgreSQL lets in 20 sessions, and 200 clients ask at once through two replicas, whose pools fit into that
(docs/deployment.md). No stream fails: none holds a connection while it waits for words."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.stores, pytest.mark.timeout(300)]

CROWD = 200


@pytest.fixture
async def few_connections(world: World) -> AsyncIterator[None]:
    await world.stores.postgres.limit(max_connections="20")
    yield
    world.stop_replicas()
    await world.stores.postgres.limit()


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_no_stream_fails(world: World, few_connections: None, server: str) -> None:
    one, other = await world.start(server, server, DATABASE_POOL_SIZE="3")
    world.script(words=20, delay=0.1)
    begun = time.monotonic()
    clients = [
        client
        for addresses in ((one.address, other.address), (other.address, one.address))
        for client in world.ask_all(*addresses, times=CROWD // 8)
    ]
    await world.finished(clients, 120)
    world.took(time.monotonic() - begun)
    await invariants(world)
