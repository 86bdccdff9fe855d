"""Row 20: the connection to a model server is cut, or its stream ends without saying why. What came is kept as
interrupted and costs nothing."""

from __future__ import annotations

import pytest

from tests.faults.endpoints import ends_as
from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


@pytest.mark.parametrize("shape", ["cut_after", "ends_after", "no_finish"])
async def test_what_came_is_kept(world: World, shape: str) -> None:
    one, other = await world.start("daphne", "uvicorn")
    words = world.moment(1, 59)
    world.script(delay=0.02, **{shape: True if shape == "no_finish" else words})
    clients = world.ask_all(one.address)
    ends_as(clients, "interrupted", "loss")
    await world.all_at(clients, 1)
    watchers = [world.follow(client, other.address) for client in clients]
    for client in (*clients, *watchers):
        assert (await client.finish()).data["code"] == "model_failed"
        assert len(client.transcript.split()) == (60 if shape == "no_finish" else words)
    await invariants(world)
