"""Row 15: a model server refuses connections. Another one answers, two seconds later at most."""

from __future__ import annotations

import time

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World
from tests.journeys.conftest import Model

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


async def test_another_one_answers(world: World, spare: Model, nobody_there: None) -> None:
    one, other = await world.start("daphne", "uvicorn")
    world.script(on=spare, delay=0.02)
    begun = time.monotonic()
    clients = [*world.ask_all(one.address, times=2), *world.ask_all(other.address, times=2)]
    await world.all_at(clients, 1)
    world.took(max(client.first_word for client in clients) - begun, promised=2.0)
    await world.finished(clients)
    await invariants(world)
