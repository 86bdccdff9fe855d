"""Row 17: every model server is overloaded, in each way in which servers say so. Questions wait five seconds at most;
then they get 503 with retry_after, are kept, and cost nothing."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]

SHAPES = {
    "429": {"status": 429, "headers": {"Retry-After": "2"}},
    "503": {"status": 503},
    "200 and an error": {"tokens": [], "error_event": {"error": "Model is overloaded", "error_type": "overloaded"}},
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_questions_wait_and_are_kept(world: World, shape: str) -> None:
    (replica,) = await world.start("daphne")
    world.script(**SHAPES[shape])
    conversations = [await world.begin(replica.address) for _ in range(4)]
    refusals = await asyncio.gather(*(world.refused(replica.address, place) for place in conversations))
    for refusal in refusals:
        assert (refusal.status, refusal.code) == (503, "model_busy")
        assert refusal.retry_after
        texts, turns, bills = world.kept(refusal)
        assert (len(texts), turns, bills) == (1, [("failed", "model_busy")], [("settled", "none")])
    world.took(max(refusal.seconds for refusal in refusals), promised=6.0)
    world.script(delay=0.01)
    await asyncio.sleep(2.5)  # what it asked for
    await world.finished(world.ask_all(replica.address))
    await invariants(world)
