"""Row 44: one tenant asks ten times as much as it may. It hears 429, and others wait no longer for their first word,
whether or not its programs wait as they are told."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import quantiles

import pytest

from tests.faults.client import Client
from tests.faults.invariants import invariants
from tests.faults.world import PATIENCE, World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]

AT_ONCE = 4
CALM = 20  # questions of the other tenant, one after the other, and three times as many in a sweep
SLOW = 503, "service_unavailable"
PREFILL = 0.3  # seconds that the model takes to its first word
LATER = {True: 1.2, False: 2.0}  # times as late, at most, by whether the flooders wait as they are told
_LIMIT = """
    INSERT INTO usage_quota (id, tenant_id, level, metric, "window", amount, hard, subject, note)
    VALUES (%s, %s, 'tenant', 'turns', 'once', %s, true, '', '') RETURNING id
"""


@contextmanager
def limited(world: World, asker: int) -> Iterator[None]:
    """A tenant may ask so much at once, until the row is over. Replicas that are started afterwards know it."""
    rows = world.stores.postgres.rows
    pk = str(uuid.uuid4())
    rows(_LIMIT, pk, world.askers[asker].id, AT_ONCE)
    try:
        yield
    finally:
        rows("DELETE FROM usage_quota WHERE id = %s RETURNING id", pk)


async def first_word(world: World, address: str) -> float:
    """The 95th percentile of the calm tenant, in seconds."""
    waits = []
    for _ in range(CALM * (3 if world.full else 1)):
        begun = time.monotonic()
        client = world.ask(address, asker=1)
        await client.finish()
        waits.append(client.first_word - begun)
    return quantiles(waits, n=20)[-1]


async def ask_on(world: World, address: str, flood: list[Client], enough: asyncio.Event, *, obeys: bool) -> None:
    while not enough.is_set():
        flood.append(world.ask(address, asker=0, obeys=obeys))
        await flood[-1].finish(120)


@pytest.mark.parametrize("obeys", [True, False], ids=["patient", "rude"])
async def test_it_is_refused_and_others_are_served(world: World, obeys: bool) -> None:
    with limited(world, 0):
        (replica,) = await world.start("daphne")
        world.script(words=20, delay=0.05, first_delay=PREFILL)
        await world.ask(replica.address, asker=1).finish()  # a process's first question takes longer
        before = await first_word(world, replica.address)
        flood: list[Client] = []
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(10 * AT_ONCE):
                group.create_task(ask_on(world, replica.address, flood, enough, obeys=obeys))
            while sum(bool(client.refusals) for client in flood) < 9 * AT_ONCE:  # noqa: ASYNC110 - all have come
                await asyncio.sleep(0.1)
            during = await first_word(world, replica.address)
            enough.set()
        refused = {refusal for client in flood for refusal in client.refusals}
        # On a busy machine Redis may take longer than the product waits for it, and then it says so.
        assert refused - (set() if world.full else {SLOW}) == {(429, "rate_limited")}
        world.record("recovery", round(during, 2))
        world.record("others later", round(during / before, 2))
        told = f"{during:.3f} s, and {before:.3f} s before"
        assert during < before * LATER[obeys] * (1 if world.full else PATIENCE), told
        await invariants(world)
