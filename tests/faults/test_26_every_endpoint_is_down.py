"""Row 26: no model server is there. The user gets the passages found, marked as such, and no invented answer; where
nothing was found, 503."""

from __future__ import annotations

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


async def test_the_passages_are_shown(world: World, nobody_there: None) -> None:
    (replica,) = await world.start("daphne")
    clients = world.ask_all(replica.address)
    for client in clients:
        client.answer, client.bill = "", "none"
        end = await client.finish()
        assert end.data["finish_reason"] == "sources_only"
        (sources,) = [seen.data["sources"] for seen in client.kept if seen.kind == "sources"]
        assert sources, "no passages"
    await invariants(world)


async def test_where_nothing_was_found_it_is_an_error(world: World, nobody_there: None) -> None:
    (replica,) = await world.start("daphne")
    conversation = await world.begin(replica.address, assistant="plain")
    refusal = await world.refused(replica.address, conversation)
    assert (refusal.status, refusal.code) == (503, "model_unavailable")
    texts, turns, bills = world.kept(refusal)
    assert (len(texts), turns, bills) == (1, [("failed", "model_unavailable")], [("settled", "none")])
    await invariants(world)
