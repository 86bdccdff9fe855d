"""Row 40: the clock of one replica is ten minutes fast or slow. Nobody notices: questions and answers keep their order,
sessions and leases hold, and a turn is taken over in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.invariants import invariants
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime: apt-get install libfaketime")
@pytest.mark.parametrize("clock", ["+600", "-600"])
@pytest.mark.parametrize("dies", ["the wrong clock", "the right clock"])
async def test_everything_keeps_its_order(world: World, clock: str, dies: str) -> None:
    how = {"LD_PRELOAD": str(LIBRARY), "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    (wrong,) = await world.start("daphne", **how)
    (right,) = await world.start("daphne")
    world.script(words=10, delay=0)
    conversation, spoken = await world.begin(right.address), []
    for replica in (wrong, right, right, wrong, right):
        client = world.ask(replica.address, conversation=conversation)
        await client.finish()
        spoken += [client.text, client.transcript]
    for replica in (wrong, right):
        assert await world.history(replica.address, conversation) == spoken
    # Slow enough for no answer to end before the last client has begun to read; who takes them over is quick.
    world.script(words=200, delay=0.25)
    goes, stays = (wrong, right) if dies == "the wrong clock" else (right, wrong)
    # Who is turned away for a moment asks the same one again, so that it runs every turn.
    askers = world.ask_all(goes.address)
    await world.all_at(askers, 2)
    watchers = [world.follow(asker, stays.address) for asker in askers]
    await world.all_at([*askers, *watchers], world.moment(3, 12))
    for asker in askers:
        asker.addresses = [stays.address]
    world.script(words=200, delay=0)
    assert not [str(asker) for asker in askers if asker.ended], "it ended too early to be taken over"
    goes.kill()
    await world.finished([*askers, *watchers])
    assert {client.cursor.epoch for client in askers} == {2}, [str(asker) for asker in askers]
    await invariants(world)
