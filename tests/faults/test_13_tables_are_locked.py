"""Row 13: somebody holds a lock on a table. Questions get 503 after two seconds: nothing of them is there where they
could not be written, and they are kept and cost nothing where only the search had to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.stores, pytest.mark.timeout(300)]


@contextmanager
def locked(world: World, table: str) -> Iterator[None]:
    with world.stores.postgres.superuser() as connection, connection.transaction():
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


async def test_what_cannot_be_written_is_not_accepted(world: World) -> None:
    (replica,) = await world.start("daphne")
    conversations = [await world.begin(replica.address) for _ in range(3)]
    world.script(delay=0.03)
    clients = world.ask_all(replica.address)
    await world.all_at(clients, world.moment(2, 50))
    with locked(world, "conversations_turn"):
        refusals = await asyncio.gather(*(world.refused(replica.address, place) for place in conversations))
        await asyncio.gather(*(client.words(60) for client in clients))  # which end once they can be saved
    for refusal in refusals:
        assert (refusal.status, refusal.code) == (503, "service_unavailable")
        assert world.kept(refusal) == ([], [], [])
    world.took(max(refusal.seconds for refusal in refusals), promised=2.5)
    late = [world.ask(replica.address, conversation=place) for place in conversations]
    await world.finished([*clients, *late])
    await invariants(world)


async def test_what_cannot_be_searched_is_kept_and_costs_nothing(world: World) -> None:
    (replica,) = await world.start("daphne")
    conversations = [await world.begin(replica.address) for _ in range(3)]
    world.script(delay=0.03)
    clients = world.ask_all(replica.address)
    await world.all_at(clients, world.moment(2, 50))
    with locked(world, "knowledge_chunk"):
        refusals = await asyncio.gather(*(world.refused(replica.address, place) for place in conversations))
    for refusal in refusals:
        assert (refusal.status, refusal.code) == (503, "service_unavailable")
        texts, turns, bills = world.kept(refusal)
        assert (len(texts), turns, bills) == (1, [("failed", "service_unavailable")], [("settled", "none")])
    world.took(max(refusal.seconds for refusal in refusals), promised=2.5)
    await world.finished(clients)
    await invariants(world)
