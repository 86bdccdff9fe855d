"""Row 10: no connection to Redis is to be had. A question waits for one at most a second and gets 503 then; it is kept
and costs nothing. The same where each answer of Redis takes longer than it may."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.invariants import invariants
from tests.faults.proxy import Link
from tests.faults.world import Refusal, World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.stores, pytest.mark.timeout(300)]

AT_ONCE = 10


def all_kept(world: World, refusals: list[Refusal]) -> None:
    for refusal in refusals:
        assert (refusal.status, refusal.code) == (503, "service_unavailable")
        texts, turns, bills = world.kept(refusal)
        assert (len(texts), turns, bills) == (1, [("failed", "service_unavailable")], [("settled", "none")])


async def test_where_redis_lets_nobody_in(world: World) -> None:
    (replica,) = await world.start("daphne")
    conversations = [await world.begin(replica.address) for _ in range(AT_ONCE)]
    world.script(delay=0.1)
    clients = world.ask_all(replica.address)
    await world.all_at(clients, world.moment(2, 20))
    with world.stores.redis.client() as redis:  # whose connection is the one that it still has
        redis.config_set("maxclients", 1)
        redis.client_kill_filter(_type="normal", skipme=True)
        redis.client_kill_filter(_type="pubsub", skipme=True)
        try:
            refusals = await asyncio.gather(*(world.refused(replica.address, place) for place in conversations))
        finally:
            redis.config_set("maxclients", 10000)
    all_kept(world, refusals)
    world.took(max(refusal.seconds for refusal in refusals), promised=1)
    late = world.ask_all(replica.address)
    await world.finished([*clients, *late])
    await invariants(world)


async def test_where_redis_answers_too_slowly(world: World) -> None:
    redis = world.stores.redis
    async with Link(redis.port) as link:
        ways = {"REDIS_URL": redis.url(0, link.port), "CACHE_URL": redis.url(1, link.port)}
        (replica,) = await world.start("daphne", **ways)
        conversations = [await world.begin(replica.address) for _ in range(AT_ONCE)]
        world.script(delay=0.1)
        clients = world.ask_all(replica.address)
        await world.all_at(clients, world.moment(2, 20))
        link.delay = 1.5
        refusals = await asyncio.gather(*(world.refused(replica.address, place) for place in conversations))
        all_kept(world, refusals)
        world.took(max(refusal.seconds for refusal in refusals), promised=1)
        link.delay = 0
        late = world.ask_all(replica.address)
        await world.finished([*clients, *late])
        await invariants(world)
