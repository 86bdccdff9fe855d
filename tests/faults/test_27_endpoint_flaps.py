"""Row 27: a model server answers every other question with 500. Each question is asked once more at most, and
answered."""

from __future__ import annotations

import pytest

from tests.faults.endpoints import questions
from tests.faults.invariants import invariants
from tests.faults.world import World
from tests.journeys.conftest import Model

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]

ROUNDS = 3


async def test_each_is_asked_once_more_at_most(world: World, spare: Model) -> None:
    one, other = await world.start("daphne", "uvicorn")
    world.script(on=spare, words=20, delay=0.01)
    world.model.script(
        *(reply for how in ({"status": 500}, {"delay": 0.01}) for reply in world.replies(again=True, **how))
    )
    clients = []
    for _ in range(ROUNDS):
        asked = [*world.ask_all(one.address), *world.ask_all(other.address)]
        await world.finished(asked)
        clients += asked
    assert questions(world.model), "nobody asked the one that flaps"
    assert len(questions(world.model)) + len(questions(spare)) <= 2 * len(clients)
    await invariants(world)
