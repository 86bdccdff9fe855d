"""Row 44: one tenant asks ten times as much as it may. It hears 429, and others wait no longer for their first word."""

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

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(240)]

AT_ONCE = 4
ROUNDS = 4  # that each of the flooders asks
CALM = 20  # questions of the other tenant, one after the other
LATER = 1.2  # times as late, at most; and a beat of the machine's, which two cores shared by all of it need
BEAT = 0.05
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


async def test_it_is_refused_and_others_are_served(world: World) -> None:
    with limited(world, 0):
        (replica,) = await world.start("daphne")
        world.script(words=20, delay=0.05)

        async def first_word() -> float:
            """The 95th percentile of the calm tenant, in seconds."""
            waits = []
            for _ in range(CALM):
                begun = time.monotonic()
                client = world.ask(replica.address, asker=1)
                await client.finish()
                waits.append(client.first_word - begun)
            return quantiles(waits, n=20)[-1]

        flood: list[Client] = []

        async def ask_on() -> None:
            for _ in range(ROUNDS):
                flood.append(world.ask(replica.address, asker=0))
                await flood[-1].finish(120)

        before = await first_word()
        floods = [asyncio.create_task(ask_on()) for _ in range(10 * AT_ONCE)]
        while sum(bool(client.refusals) for client in flood) < 10 * AT_ONCE - AT_ONCE:  # noqa: ASYNC110 - all have come
            await asyncio.sleep(0.1)
        during = await first_word()
        assert not all(one.done() for one in floods), "the flood was over before"
        await asyncio.gather(*floods)
        refused = [refusal for client in flood for refusal in client.refusals]
        assert refused
        assert set(refused) == {(429, "rate_limited")}
        world.record("recovery", round(during, 2))
        assert during < before * LATER * PATIENCE + BEAT, f"{during:.3f} s, and {before:.3f} s before"
        if world.full:
            assert during < before * LATER + BEAT, f"{during:.3f} s, and {before:.3f} s before"
        await invariants(world)
