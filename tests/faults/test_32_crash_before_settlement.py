"""Row 32: the replica dies (kill -9) between the last word and the bill, or between the bill and telling of it. Nobody
notices; the turn is billed once, within 60 seconds."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.invariants import invariants
from tests.faults.proxy import Link
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.stores, pytest.mark.timeout(300)]


async def test_said_and_not_billed(world: World) -> None:
    dies, other = await world.start("daphne", "daphne")
    world.script(delay=0.03, lingers_after=35)
    askers = world.ask_all(dies.address, other.address)
    await world.all_at(askers, world.moment(5, 30))
    with world.stores.postgres.superuser() as connection, connection.transaction():
        # Closing a turn waits for this, and takes over nobody else meanwhile.
        connection.execute("LOCK TABLE usage_usagerecord IN ACCESS EXCLUSIVE MODE")
        world.model.hurry()
        await asyncio.gather(*(asker.words(60) for asker in askers))
        await asyncio.sleep(world.random.uniform(0, 1))
        assert not any(asker.ended for asker in askers)
        dies.kill()
    died = time.monotonic()
    await world.finished(askers)
    world.took(time.monotonic() - died, promised=60)
    await invariants(world)


async def test_billed_and_not_told(world: World) -> None:
    redis = world.stores.redis
    async with Link(redis.port) as link:
        ways = {"REDIS_URL": redis.url(0, link.port), "CACHE_URL": redis.url(1, link.port)}
        (dies,) = await world.start("daphne", **ways)
        (other,) = await world.start("daphne")
        world.script()
        askers = world.ask_all(dies.address, other.address)
        await world.all_at(askers, 2)
        watchers = [world.follow(asker, other.address) for asker in askers]
        await world.all_at([*askers, *watchers], world.moment(3, 30))
        link.blackhole()
        turns = [asker.turn for asker in askers]
        billed = "SELECT count(*) FROM usage_usagerecord WHERE turn_id = ANY(%s::uuid[]) AND state = 'settled'"
        async with asyncio.timeout(90):
            while world.stores.postgres.rows(billed, turns) != [(len(turns),)]:  # noqa: ASYNC110 - of other processes
                await asyncio.sleep(0.05)
        dies.kill()
        died = time.monotonic()
        await world.finished([*askers, *watchers])
        world.took(max(watcher.longest_silence(died) for watcher in watchers), promised=60)
        await invariants(world)
