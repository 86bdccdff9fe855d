"""Row 23: a model server goes on for ever, whatever it was told. The answer stops at its cap, with finish_reason
length."""

from __future__ import annotations

import pytest

from chatbot.inference.stream import CHARACTERS_PER_TOKEN
from tests.faults.arrange import LONGEST
from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


async def test_it_stops_at_the_cap(world: World) -> None:
    (replica,) = await world.start("daphne")
    world.script(endless=True, delay=0.0)
    clients = world.ask_all(replica.address)
    for client in clients:
        end = await client.finish()
        assert end.data["finish_reason"] == "length"
        assert (client.answer * 1000).startswith(client.transcript)
        client.answer = client.transcript
    assert all(LONGEST <= len(client.answer) <= LONGEST * CHARACTERS_PER_TOKEN for client in clients)
    await invariants(world)
