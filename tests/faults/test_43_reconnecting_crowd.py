"""Row 43: a crowd of sockets that lost their connections comes back at once, each from its own place in a turn that
goes on, and each gets every event once.

200 of them; PARLEY_FAULTS_FULL=1 makes it 1,000. How long attaching took is printed and not asserted: other tests run
on the same machine. `make bench ONLY=idle` measures it on a core of the web process's own.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.fakes.inference import Reply
from tests.journeys.client import Doors, Event, heard, say
from tests.journeys.conftest import World, model, web_process, world  # noqa: F401 - fixtures among them

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

CROWD = 1000 if os.environ.get("PARLEY_FAULTS_FULL") else 200
# The model goes on until it is stopped, when everybody is back.
ENDLESS = Reply(tokens=[f"w{n} " for n in range(20)], delay=0.2, endless=True, always=True)


@dataclass
class Member:
    """One of the crowd."""

    number: int
    seen: list[Event] = field(default_factory=list)
    attached_in: float = 0.0

    @property
    def text(self) -> str:
        return "".join(event.data["text"] for event in self.seen if event.type == "token")

    async def follow_a_while(self, doors: Doors, turn: str) -> None:
        """Read a few events and lose the connection."""
        async with doors.socket() as chat:
            await say(chat, type="resume", turn=turn)
            async for event in heard(chat):
                self.seen.append(event)
                if len(self.seen) > self.number % 7:
                    break
            chat.transport.abort()

    async def come_back(self, doors: Doors, turn: str, all_back: asyncio.Barrier) -> None:
        started = time.monotonic()
        async with doors.socket() as chat:
            await say(chat, type="resume", turn=turn, after=self.seen[-1].cursor)
            async for event in heard(chat):
                self.attached_in = time.monotonic() - started
                self.seen.append(event)
                break
            await all_back.wait()
            self.seen += [event async for event in heard(chat)]


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def doors(request: pytest.FixtureRequest, world: World) -> Iterator[Doors]:  # noqa: F811
    with web_process(request.param) as address:
        yield Doors(address, world.key)


async def test_everybody_gets_every_event_once(doors: Doors, world: World, request: pytest.FixtureRequest) -> None:  # noqa: F811
    world.model.script(ENDLESS)
    crowd = [Member(number) for number in range(CROWD)]
    async with doors.stream("pump?") as events, doors.http() as http:
        asked = [await anext(events)]
        turn = asked[0].data["turn"]
        await asyncio.gather(*(member.follow_a_while(doors, turn) for member in crowd))
        all_back = asyncio.Barrier(CROWD + 1)
        async with asyncio.TaskGroup() as coming:  # which ends the wait for all when one does not come
            for member in crowd:
                coming.create_task(member.come_back(doors, turn, all_back))
            await all_back.wait()
            (await http.post(f"/turns/{turn}/stop")).raise_for_status()
            asked += [event async for event in events]
    cursors = [event.cursor for event in asked]
    assert cursors == [f"1-{seq}" for seq in range(1, len(asked) + 1)]
    assert all([event.cursor for event in member.seen] == cursors for member in crowd)
    assert {member.text for member in crowd} == {asked[-1].data["text"]}
    times = sorted(member.attached_in for member in crowd)
    sys.stdout.write(f"\n{CROWD} sockets back on {request.node.callspec.id}: p95 {times[int(CROWD * 0.95)]:.2f} s\n")
