"""Beside row 30: clients that vanish without a word are noticed by the heartbeat, and those that answer it stay."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from config import run
from tests.fakes.inference import Reply
from tests.faults.test_30_client_that_never_reads import held, listening, over_ws
from tests.journeys.client import Doors, heard, say
from tests.journeys.conftest import World, model, web_process, world  # noqa: F401 - fixtures among them

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def doors(request: pytest.FixtureRequest, world: World) -> Iterator[Doors]:  # noqa: F811
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "PING_SECONDS", 2)
        patch.setattr(run, "PONG_SECONDS", 5)  # which those that are only busy keep
        with web_process(request.param) as address:
            yield Doors(address, world.key)


async def test_a_client_that_answers_no_ping_is_let_go(doors: Doors, world: World) -> None:  # noqa: F811
    world.model.script(Reply(tokens=["Prime", " it."], always=True))
    async with doors.socket() as chat:
        await say(chat, type="ask", assistant="guide", text="pump?")
        turn = [event async for event in heard(chat)][-1].data["turn"]
        vanished = await over_ws(doors, [turn])
        process = listening(doors.base_url.removeprefix("http://"))
        async with asyncio.timeout(60):
            while await held(process, [vanished]):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.1)
        vanished.close()
        # This client's library answers pings by itself.
        await say(chat, type="resume", turn=turn)
        assert [event async for event in heard(chat)][-1].data["text"] == "Prime it."
