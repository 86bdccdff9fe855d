"""Row 21: a stream that is valid but odd: characters cut in the middle, CRLF, comments, keep-alives, empty deltas.
The text is the same."""

from __future__ import annotations

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


async def test_the_text_is_the_same(world: World) -> None:
    one, other = await world.start("daphne", "uvicorn")
    for split in (1, world.moment(2, 40)):
        world.script(words=20, delay=0.01, split=split, noise=True, thoughts=["Hm. ", "So."])
        await world.finished([*world.ask_all(one.address), *world.ask_all(other.address)])
    await invariants(world)
