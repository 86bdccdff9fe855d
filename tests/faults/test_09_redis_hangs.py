"""Row 9: Redis hangs (SIGSTOP), or the way to it swallows everything. New questions get 503 within a second, are kept
and cost nothing; what runs goes on where it runs; the replica stays ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.invariants import invariants
from tests.faults.proxy import Link
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.stores, pytest.mark.timeout(300)]


@asynccontextmanager
async def hanging(world: World, link: Link, how: str) -> AsyncIterator[None]:
    redis = world.stores.redis
    (redis.hang if how == "hangs" else link.blackhole)()
    try:
        yield
    finally:
        (redis.wake if how == "hangs" else link.restore)()


@pytest.mark.parametrize("how", ["hangs", "is unreachable"])
async def test_it_takes_no_new_questions_and_stops_no_running_ones(world: World, how: str) -> None:
    redis = world.stores.redis
    async with Link(redis.port) as link:
        ways = {"REDIS_URL": redis.url(0, link.port), "CACHE_URL": redis.url(1, link.port)}
        (replica,) = await world.start("daphne", **ways)
        conversations = [await world.begin(replica.address, asker) for asker in (0, 1)]
        world.script(delay=0.1)
        clients = world.ask_all(replica.address)
        await world.all_at(clients, world.moment(2, 20))
        async with hanging(world, link, how):
            refusals = await asyncio.gather(
                *(world.refused(replica.address, place, asker) for asker, place in enumerate(conversations))
            )
            async with world.session.get(f"{replica.address}/healthz/ready") as response:
                assert response.status == 200
        for asker, refusal in enumerate(refusals):
            question = f"Is this of {world.askers[asker].canary} kept?"
            assert (refusal.status, refusal.code) == (503, "service_unavailable")
            assert world.kept(refusal) == ([question], [("failed", "service_unavailable")], [("settled", "none")])
        world.took(max(refusal.seconds for refusal in refusals), promised=1)
        late = world.ask_all(replica.address)
        await world.finished([*clients, *late])
        await invariants(world)
