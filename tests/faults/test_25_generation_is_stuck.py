"""Row 25: a model server generates nothing, while its /health is green. Within half a minute it is asked no more."""

from __future__ import annotations

import time

import pytest

from tests.faults.endpoints import came_at, questions
from tests.faults.invariants import invariants
from tests.faults.world import PATIENCE, World
from tests.journeys.conftest import Model

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]

PROMISED = 30.0
CALM = 2  # rounds in a row without a question to the one that is stuck


async def test_it_is_asked_no_more(world: World, impatient: float, spare: Model) -> None:
    one, other = await world.start("daphne", "uvicorn")
    world.script(on=spare, words=10, delay=0.01)
    world.script(words=10, hang_after=0)
    begun = time.monotonic()
    calm = 0
    while calm < CALM:
        asked = len(questions(world.model))
        await world.finished([*world.ask_all(one.address, times=2), *world.ask_all(other.address, times=2)])
        calm = calm + 1 if len(questions(world.model)) == asked else 0
        assert time.monotonic() - begun < PROMISED * PATIENCE, "it is still asked"
    world.took(max(came_at(world.model)) - begun, promised=PROMISED)
    await invariants(world)
