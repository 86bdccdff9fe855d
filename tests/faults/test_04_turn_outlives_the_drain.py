"""Row 4: a turn outlives the time that a replica which drains gives it. It is handed over at once, as in row 2."""

from __future__ import annotations

import time

import pytest

from tests.faults.invariants import invariants
from tests.faults.replicas import manage
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(180)]


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_it_is_handed_over(world: World, server: str) -> None:
    (drains,) = await world.start(server, PARLEY_DRAIN_SECONDS="1")
    (other,) = await world.start(server)
    world.script(delay=0.1)
    clients = world.ask_all(drains.address, other.address)
    await world.all_at(clients, world.moment(3, 20))
    drains.terminate()
    begun = time.monotonic()
    await world.finished(clients)
    await drains.gone()
    assert {client.cursor.epoch for client in clients} == {2}
    # Readers leave and come back spread over two seconds.
    world.took(max(client.longest_silence(begun) for client in clients), promised=3 + 2)
    await invariants(world)


async def test_what_the_last_replica_leaves_the_next_one_goes_on_with(world: World) -> None:
    (only,) = await world.start("daphne")
    world.script(delay=0.15)
    clients = world.ask_all(only.address)
    await world.all_at(clients, 3)
    assert "Drained 1 web process" in await manage(world.stores.environment, "drain")
    assert await manage(world.stores.environment, "drain", "--list") == ""
    only.terminate()
    await only.gone(10)
    (following,) = await world.start("daphne")
    for client in clients:
        client.addresses = [following.address]
    await world.finished(clients)
    await invariants(world)
