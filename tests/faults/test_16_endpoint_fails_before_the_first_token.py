"""Row 16: a model server answers 500 before its first token. Another one answers."""

from __future__ import annotations

import pytest

from tests.faults.endpoints import questions
from tests.faults.invariants import invariants
from tests.faults.world import World
from tests.journeys.conftest import Model

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


async def test_another_one_answers(world: World, spare: Model) -> None:
    one, other = await world.start("daphne", "uvicorn")
    world.script(on=spare, delay=0.02)
    world.script(status=500)
    clients = [*world.ask_all(one.address, times=2), *world.ask_all(other.address, times=2)]
    await world.finished(clients)
    assert questions(world.model), "nobody asked the one that fails"
    assert len(questions(world.model)) + len(questions(spare)) <= 2 * len(clients)
    await invariants(world)
