"""Row 3: a deploy. Replicas behind nginx drain on SIGTERM and are replaced, one after the other, under streams: readers
come back silently, and no word is lost or doubled."""

from __future__ import annotations

import asyncio
import shutil
import time

import pytest

from tests.deploy.proxy import nginx
from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(1800)]

ONCE, SWEEP = (5, 1), (25, 10)  # of each of four kinds of clients; restarts of both


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx: apt-get install nginx")
@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_rolling_restarts_lose_and_double_nothing(world: World, server: str) -> None:
    times, rounds = SWEEP if world.full else ONCE
    how = {"PARLEY_BEHIND_PROXY": "on", "PARLEY_DRAIN_SECONDS": "60"}
    replicas = await world.start(server, server, **how)
    world.behind_proxy = True
    world.script(words=80, delay=0.1)
    slowest = 0.0
    with nginx(*(replica.address.removeprefix("http://") for replica in replicas)) as proxy:
        for _ in range(rounds):
            for place in (0, 1):
                clients = world.ask_all(proxy.url, times=times)
                await world.all_at(clients, world.moment(2, 6))
                replicas[place].terminate()
                begun = time.monotonic()
                await asyncio.gather(world.finished(clients, 180), replicas[place].gone(90))
                slowest = max(slowest, *(client.longest_silence(begun) for client in clients))
                assert not [client for client in clients if client.restarts], "nothing had to be taken over"
                replicas[place] = await world.again(replicas[place], **how)
        assert any(client.connections > 1 for client in world.clients), "nobody was sent away"
        world.took(slowest)
        await invariants(world)


async def test_while_it_drains_a_replica_is_not_ready_and_says_so(world: World) -> None:
    (drains,) = await world.start("daphne", PARLEY_DRAIN_SECONDS="30")
    (other,) = await world.start("daphne")
    world.script(delay=0.1)
    clients = world.ask_all(drains.address, other.address)
    await world.all_at(clients, 2)
    probe = f"{drains.address}/healthz"
    async with world.session.get(f"{probe}/ready") as response:  # and keeps its connection
        assert response.status == 200
    conversation = await world.begin(drains.address)
    drains.terminate()
    await asyncio.gather(*(client.until(lambda client=client: client.connections > 1) for client in clients))
    async with world.session.get(f"{probe}/ready") as response:
        assert response.status == 503
    refusal = await world.refused(drains.address, conversation)
    assert (refusal.status, refusal.code) == (503, "service_unavailable")
    assert world.kept(refusal) == ([], [], [])
    await world.finished(clients)
    await drains.gone()
    await invariants(world)
