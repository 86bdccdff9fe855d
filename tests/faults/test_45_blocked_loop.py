"""Row 45: one replica stands still for five seconds (SIGSTOP), as if its event loop were blocked. Others notice
nothing, its own sockets survive, and nobody takes its turns over."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]

SECONDS = 5.0


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_its_sockets_survive(world: World, server: str) -> None:
    blocked, other = await world.start(server, server)
    world.script(delay=0.15, lingers_after=40)
    its, others = world.ask_all(blocked.address), world.ask_all(other.address)
    await world.all_at([*its, *others], world.moment(3, 15))
    blocked.hang()
    begun = time.monotonic()
    heard = [client.said for client in others]
    await asyncio.sleep(SECONDS)
    meanwhile = [client.said - before for client, before in zip(others, heard, strict=True)]
    blocked.wake()
    world.model.hurry()
    await world.finished(world.clients)
    assert all(client.connections == 1 and not client.restarts for client in world.clients)
    assert min(meanwhile) > 0, "others waited with it"
    world.took(max(client.longest_silence(begun) for client in its) - SECONDS)
    await invariants(world)
