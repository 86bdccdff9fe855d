"""Row 8: Redis is out of memory and evicts nothing. New questions get 503, are kept and cost nothing; what runs goes on
where it runs; the history can be read."""

from __future__ import annotations

import time

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.stores, pytest.mark.timeout(300)]


async def test_it_takes_no_new_questions_and_stops_no_running_ones(world: World) -> None:
    (replica,) = await world.start("daphne")
    conversations = [await world.begin(replica.address, asker) for asker in (0, 1)]
    world.script(delay=0.1)
    clients = world.ask_all(replica.address)
    await world.all_at(clients, world.moment(2, 20))
    world.stores.redis.set("maxmemory", "1")
    for asker, conversation in enumerate(conversations):
        refusal = await world.refused(replica.address, conversation, asker)
        question = f"Is this of {world.askers[asker].canary} kept?"
        assert (refusal.status, refusal.code) == (503, "service_unavailable")
        assert world.kept(refusal) == ([question], [("failed", "service_unavailable")], [("settled", "none")])
        assert await world.history(replica.address, conversation, asker) == [question]
    await world.finished(clients)
    world.stores.redis.set("maxmemory", "0")
    begun = time.monotonic()
    late = world.ask_all(replica.address)
    await world.all_at(late, 1)
    world.took(time.monotonic() - begun)
    await invariants(world)
