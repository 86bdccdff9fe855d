"""Row 18: the first token takes a minute. Another model server answers when the first one has had its time (15
seconds); where there is none the question ends in an error five seconds later at most."""

from __future__ import annotations

import time

import pytest

from tests.faults.endpoints import ends_as
from tests.faults.invariants import invariants
from tests.faults.world import World
from tests.journeys.conftest import Model

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]

SHAPES = {"no headers": {"first_delay": 60}, "keep-alives alone": {"hang_after": 0, "noise": True}}


@pytest.mark.parametrize("shape", SHAPES)
async def test_another_one_answers(world: World, impatient: float, spare: Model, shape: str) -> None:
    one, other = await world.start("daphne", "uvicorn")
    world.script(on=spare, delay=0.02)
    world.script(**SHAPES[shape])
    begun = time.monotonic()
    clients = [*world.ask_all(one.address), *world.ask_all(other.address)]
    await world.finished(clients)
    world.took(max(client.first_word for client in clients) - begun, promised=impatient + 1)
    await invariants(world)


async def test_without_another_one_it_ends_in_an_error(world: World, impatient: float) -> None:
    (replica,) = await world.start("daphne")
    world.script(first_delay=60)
    begun = time.monotonic()
    clients = world.ask_all(replica.address)
    ends_as(clients, "failed", "loss")
    for client in clients:
        assert (await client.finish()).data["code"] == "model_timeout"
    world.took(time.monotonic() - begun, promised=impatient + 5)
    await invariants(world)
