"""Row 12: PostgreSQL is down for a minute (here for longer than a replica may be silent before it counts as dead). The
stream is told to its last word and ends once it is saved; new questions get 503, and nothing of them is kept."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.stores, pytest.mark.timeout(300)]

AWAY, SWEPT_AWAY = 11, 60


async def test_answers_are_saved_when_it_is_back(world: World) -> None:
    runs, other = await world.start("daphne", "uvicorn")
    conversation = await world.begin(runs.address)
    world.script(lingers_after=50)
    askers = world.ask_all(runs.address)
    await world.all_at(askers, 2)
    watchers = [world.follow(asker, other.address) for asker in askers]
    await world.all_at([*askers, *watchers], world.moment(3, 50))
    await world.stores.postgres.end(signal.SIGINT)
    away = time.monotonic()
    world.model.hurry()
    await asyncio.gather(*(client.words(60) for client in (*askers, *watchers)))
    refusals = [await world.refused(replica.address, conversation) for replica in (runs, other)]
    await asyncio.sleep(away + (SWEPT_AWAY if world.full else AWAY) - time.monotonic())
    assert not any(client.ended for client in (*askers, *watchers)), "told before it is stored"
    await world.stores.postgres.start()
    back = time.monotonic()
    for refusal in refusals:
        assert (refusal.status, refusal.code) == (503, "service_unavailable")
        assert world.kept(refusal) == ([], [], [])
    await world.finished([*askers, *watchers])
    assert not any(client.restarts for client in (*askers, *watchers))
    world.took(time.monotonic() - back)
    late = world.ask_all(runs.address, other.address)
    await world.finished(late)
    await invariants(world)
