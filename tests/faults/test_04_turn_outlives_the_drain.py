"""Row 4: a turn outlives the time that a replica which drains gives it. It is handed over at once, as in row 2."""

from __future__ import annotations

import shutil
import time

import pytest

from tests.deploy.proxy import nginx
from tests.faults.invariants import invariants
from tests.faults.replicas import manage
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx: apt-get install nginx")
@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_it_is_handed_over(world: World, server: str) -> None:
    """Through nginx, which gives questions to both."""
    drains, other = await world.start(server, server, PARLEY_DRAIN_SECONDS="1", PARLEY_BEHIND_PROXY="on")
    world.behind_proxy = True
    world.script(delay=0.1, lingers_after=25)
    with nginx(drains.place, other.place) as proxy:
        clients = world.ask_all(proxy.url, times=2)
        await world.all_at(clients, world.moment(3, 20))
        drains.terminate()
        begun = time.monotonic()
        await drains.gone()
        world.model.hurry()
        await world.finished(clients)
        assert {client.cursor.epoch for client in clients} == {1, 2}, "those of the one that drained, and the others"
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
    await only.gone()
    (following,) = await world.start("daphne")
    for client in clients:
        client.addresses = [following.address]
    await world.finished(clients)
    await invariants(world)
