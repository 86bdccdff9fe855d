"""Row 22: a model server sends what is no JSON, or a line of 10 MB, in the middle of an answer. What came before is
kept as interrupted and costs nothing."""

from __future__ import annotations

import pytest

from tests.faults.endpoints import ends_as
from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]

SHAPES = {"no JSON": "data: {torn\n\n", "10 MB": "data: " + "x" * 10_000_000}


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_came_before_is_kept(world: World, shape: str) -> None:
    (replica,) = await world.start("daphne")
    world.script(words=20, delay=0.01, garbage=SHAPES[shape])
    clients = world.ask_all(replica.address)
    ends_as(clients, "interrupted", "loss")
    for client in clients:
        assert (await client.finish()).data["code"] == "model_failed"
        assert client.transcript == client.answer
    await invariants(world)
