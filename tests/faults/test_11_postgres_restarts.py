"""Row 11: PostgreSQL restarts as after a power cut, in mid-stream. The stream goes on, and the answer is saved when it
is back; nobody is taken for dead because all locks are gone."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.stores, pytest.mark.timeout(300)]


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_the_stream_goes_on(world: World, server: str) -> None:
    runs, other = await world.start(server, server)
    world.script()
    askers = world.ask_all(runs.address)
    await world.all_at(askers, 2)
    watchers = [world.follow(asker, other.address) for asker in askers]
    await world.all_at([*askers, *watchers], world.moment(3, 58))
    begun = time.monotonic()
    await world.stores.postgres.crash()
    await world.stores.postgres.start()
    await world.finished([*askers, *watchers])
    assert not any(client.restarts for client in (*askers, *watchers))
    world.took(max(client.longest_silence(begun) for client in (*askers, *watchers)))
    late = world.ask_all(runs.address, other.address)
    await world.finished(late)
    await invariants(world)


async def test_an_answer_that_ends_meanwhile_is_saved_afterwards(world: World) -> None:
    (replica,) = await world.start("daphne")
    world.script(delay=0.03, lingers_after=50)
    askers = world.ask_all(replica.address)
    await world.all_at(askers, 50)
    await world.stores.postgres.crash()
    world.model.hurry()
    await asyncio.gather(*(asker.words(60) for asker in askers))
    assert not any(asker.ended for asker in askers), "told before it is stored"
    await world.stores.postgres.start()
    begun = time.monotonic()
    await world.finished(askers)
    world.took(time.monotonic() - begun)
    await invariants(world)
