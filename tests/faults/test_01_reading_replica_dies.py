"""Row 1: the replica that a client reads through dies (kill -9). The client reads on through another one, at most 3
seconds later, without gap or repeat."""

from __future__ import annotations

import time

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_its_readers_read_on_elsewhere(world: World, server: str) -> None:
    runs, dies = await world.start(server, server)
    world.script(lingers_after=35)
    askers = world.ask_all(runs.address)
    await world.all_at(askers, 2)
    readers = [world.follow(asker, dies.address, runs.address) for asker in askers]
    await world.all_at(readers, world.moment(4, 30))
    dies.kill()
    died = time.monotonic()
    world.model.hurry()
    await world.finished(readers)
    assert all(reader.connections == 2 and not reader.restarts for reader in readers)
    world.took(max(reader.longest_silence(died) for reader in readers), promised=3)
    await invariants(world)
