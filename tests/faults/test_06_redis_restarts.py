"""Row 6: Redis restarts, with its append-only file. Whoever reads through another replica waits at most 5 seconds; the
rest notices nothing."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.stores, pytest.mark.timeout(300)]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
async def test_everybody_reads_on(world: World, signum: signal.Signals) -> None:
    runs, other = await world.start("daphne", "uvicorn")
    world.script(delay=0.1)
    askers = world.ask_all(runs.address)
    await world.all_at(askers, 2)
    watchers = [world.follow(asker, other.address) for asker in askers]
    await world.all_at([*askers, *watchers], world.moment(3, 20))
    redis = world.stores.redis
    begun = time.monotonic()
    await redis.end(signum)
    await asyncio.sleep(world.random.uniform(0, 1))
    await redis.start()
    await world.finished([*askers, *watchers])
    assert not any(client.restarts for client in (*askers, *watchers))
    world.took(max(watcher.longest_silence(begun) for watcher in watchers), promised=5)
    late = world.ask_all(other.address)
    await world.finished(late)
    await invariants(world)
