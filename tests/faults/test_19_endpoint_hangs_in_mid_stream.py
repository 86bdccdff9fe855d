"""Row 19: a model server hangs in the middle of an answer. Ten seconds later what came is kept as interrupted, costs
nothing, and can be continued."""

from __future__ import annotations

import time

import pytest

from tests.faults.endpoints import ends_as
from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


async def test_what_came_is_kept_and_can_be_continued(world: World) -> None:
    (replica,) = await world.start("daphne")
    words = world.moment(1, 50)
    world.script(hang_after=words, delay=0.02)
    clients = world.ask_all(replica.address)
    ends_as(clients, "interrupted", "loss")
    await world.all_at(clients, words)
    begun = time.monotonic()
    for client in clients:
        assert (await client.finish()).data["code"] == "model_timeout"
    world.took(time.monotonic() - begun, promised=10.0)
    world.script(delay=0.01)
    for client in clients:
        url = f"{replica.address}/api/v1/turns/{client.turn}/continue"
        async with world.session.post(url, headers=client.asker.headers) as response:
            told = await response.json()
            assert (response.status, told["state"]) == (200, "finished"), told
            assert told["answer"]["text"] == client.answer
        reader = world.follow(client, replica.address)
        reader.turn, reader.state, reader.bill = told["id"], "finished", "once"
    await invariants(world)
