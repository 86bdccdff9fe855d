"""Row 7: Redis loses its data (FLUSHALL). Better than the catalogue asks: while its process lives, the answer goes on,
is journaled again and billed once. Lost together with that process, it is taken over from PostgreSQL's checkpoint or
begun again; finished answers are told as they are stored."""

from __future__ import annotations

import time

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.stores, pytest.mark.timeout(300)]


async def test_what_redis_forgot_is_written_again(world: World) -> None:
    runs, other = await world.start("daphne", "daphne")
    world.script(delay=0)
    ended = world.ask_all(runs.address)
    await world.finished(ended)
    world.script(delay=0.1)
    askers = world.ask_all(runs.address)
    await world.all_at(askers, 2)
    watchers = [world.follow(asker, other.address) for asker in askers]
    await world.all_at([*askers, *watchers], world.moment(3, 20))
    world.stores.redis.forget()
    begun = time.monotonic()
    await world.all_at(askers, 30)
    latecomers = [world.follow(asker, other.address) for asker in askers]
    await world.finished(world.clients)
    assert not any(client.restarts for client in world.clients)
    world.took(max(client.longest_silence(begun) for client in (*askers, *watchers, *latecomers)))
    await world.told_again(ended, other.address)
    await invariants(world)


async def test_lost_together_with_the_process_the_answer_begins_at_its_checkpoint(world: World) -> None:
    """In a sweep, with one: the first is written after ten seconds."""
    dies, other = await world.start("daphne", "daphne")
    checkpoint = 215 if world.full else 0
    world.script(words=checkpoint + 60, lingers_after=checkpoint + 35)
    askers = world.ask_all(dies.address, other.address)
    await world.all_at(askers, checkpoint + world.moment(3, 30))
    dies.hang()  # it must not write the journal again
    world.stores.redis.forget()
    dies.kill()
    died = time.monotonic()
    world.model.hurry()
    await world.finished(askers)
    assert {client.cursor.epoch for client in askers} == {2}
    assert [[told["reset"] for told in asker.restarts] for asker in askers] == [[True]] * len(askers)
    world.took(max(asker.longest_silence(died) for asker in askers), promised=3)
    await invariants(world)
