"""Two web processes, and a command beside them that takes back: what hangs on it ends in both within five seconds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.fakes.inference import Reply
from tests.faults.world import PATIENCE
from tests.journeys.client import Doors, Event, heard, say
from tests.journeys.conftest import World, manage, web_process

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

WITHIN = 5.0 * PATIENCE
LONG = Reply(tokens=["word "], endless=True, always=True, delay=0.05)


@pytest.fixture(scope="module")
def replicas(world: World) -> Iterator[tuple[str, str]]:
    with web_process("daphne") as first, web_process("uvicorn") as second:
        yield first, second


async def closed(socket: ClientConnection) -> tuple[int, str]:
    """The close code, and the code of the last frame before it that was about the socket."""
    said = ""
    try:
        while True:
            frame = json.loads(await socket.recv())
            if frame["type"] == "error" and "turn" not in frame:
                said = frame["code"]
    except ConnectionClosed as end:
        return (end.rcvd.code if end.rcvd else 1006), said


@pytest.mark.parametrize(
    ("taken", "code", "said"), [("key", 4401, "not_authenticated"), ("tenant", 4403, "not_permitted")]
)
async def test_what_is_taken_back_ends_everywhere(
    world: World, replicas: tuple[str, str], taken: str, code: int, said: str
) -> None:
    world.model.script(LONG)
    issued = await asyncio.to_thread(manage, "issue_key", "--tenant", "acme", "--name", f"taken back: {taken}")
    here, there = (Doors(address, issued.strip()) for address in replicas)
    async with here.socket() as idle, there.socket() as asking, here.stream("Tell me everything.") as stream:
        await say(asking, type="ask", assistant="guide", text="Tell me everything.")
        async for event in heard(asking):
            if event.type == "token":
                break
        begun = await anext(stream)
        if taken == "key":
            await asyncio.to_thread(manage, "revoke_key", issued.split("_")[1])
        else:
            await asyncio.to_thread(manage, "suspend_tenant", "acme")
        async with asyncio.timeout(WITHIN):
            *_, last = await gathered(stream)
            assert (last.type, last.data["code"] in {"not_authenticated", "not_permitted"}) == ("error", True)
            assert {*await asyncio.gather(closed(idle), closed(asking))} == {(code, said)}
    if taken == "tenant":
        await asyncio.to_thread(manage, "suspend_tenant", "acme", "--resume")
    # What was said is kept.
    doors = Doors(replicas[1], world.key)
    async with asyncio.timeout(WITHIN):
        while (turn := await doors.turn(begun.data["turn"]))["state"] == "running":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert turn["state"] == "interrupted"
    assert turn["answer"]["text"].startswith("word word")


async def gathered(stream: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in stream]
