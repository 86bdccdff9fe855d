"""Row 28: a client vanishes. The turn goes on, and the whole answer is there on return, through any replica, while it
is written and afterwards."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


@pytest.mark.parametrize("returns", ["in the middle", "after the end"])
async def test_the_whole_answer_is_there_on_return(world: World, returns: str) -> None:
    one, other = await world.start("daphne", "uvicorn")
    world.script(delay=0.04)
    clients = world.ask_all(one.address)
    await world.all_at(clients, world.moment(1, 30))
    await asyncio.gather(*(client.close() for client in clients))
    turns = [client.turn for client in clients]
    ended = "SELECT count(*) FROM conversations_turn WHERE id = ANY(%s::uuid[]) AND state = 'finished'"
    if returns == "after the end":
        async with asyncio.timeout(90):
            while world.stores.postgres.rows(ended, turns) != [(len(turns),)]:  # noqa: ASYNC110 - of other processes
                await asyncio.sleep(0.1)
    back = time.monotonic()
    for client in clients:
        client.come_back(other.address)
    await world.finished(clients)
    assert not any(client.restarts for client in clients)
    world.took(max(client.history[-1].at for client in clients) - back if returns == "after the end" else 0.0)
    await invariants(world)
