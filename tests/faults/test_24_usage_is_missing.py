"""Row 24: a model server does not count. The answer is like any other; its usage is estimated, and says so."""

from __future__ import annotations

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


@pytest.mark.parametrize("missing", [True, False])
async def test_it_is_estimated_and_says_so(world: World, missing: bool) -> None:
    (replica,) = await world.start("daphne")
    world.script(words=20, delay=0.01, no_usage=missing)
    clients = world.ask_all(replica.address)
    await world.finished(clients)
    rows = world.stores.postgres.rows("SELECT estimated, prompt_tokens, completion_tokens FROM usage_usagerecord")
    assert len(rows) == len(clients)
    for estimated, prompt, completion in rows:
        assert estimated is missing
        assert prompt > 0
        assert completion > 0
    await invariants(world)
