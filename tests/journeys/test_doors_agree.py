"""The doors of a running product agree: same events, same answer, and none of them can lose one by closing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.fakes.inference import Reply
from tests.journeys.client import Doors, Event, heard, say, told
from tests.journeys.conftest import PASSAGE, World, manage, web_process

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

QUESTION = "What must be done before the first brew?"
TOKENS = ["Prime", " the", " pump", " [1]", ", not", " the", " mill", " [7]", "."]
ANSWER = "Prime the pump [1], not the mill."


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def doors(request: pytest.FixtureRequest, world: World) -> Iterator[Doors]:
    with web_process(request.param) as base_url:
        yield Doors(base_url, world.key)


async def by_sse(doors: Doors) -> list[Event]:
    async with doors.stream(QUESTION) as events:
        return [event async for event in events]


async def by_socket(doors: Doors) -> list[Event]:
    async with doors.socket() as socket:
        await say(socket, type="ask", assistant="guide", text=QUESTION)
        return [event async for event in heard(socket)]


async def until(events: AsyncIterator[Event], count: int) -> list[Event]:
    """The events up to the `count`-th word."""
    seen: list[Event] = []
    async for event in events:
        seen.append(event)
        if len("".join(event.data["text"] for event in seen if event.type == "token").split()) >= count:
            break
    return seen


async def test_every_door_tells_the_same_of_the_same_question(doors: Doors, world: World) -> None:
    world.model.script(Reply(tokens=TOKENS, always=True, delay=0.01))
    turn = await doors.ask(QUESTION)
    streamed = await by_sse(doors)
    socketed = await by_socket(doors)

    assert told(streamed) == told(socketed)
    assert [kind for kind, _ in told(streamed)] == ["turn.started", "sources", "token", "turn.finished"]
    end = streamed[-1].data
    assert "".join(event.data["text"] for event in streamed if event.type == "token") == end["text"] == ANSWER
    for field in ("text", "state", "finish_reason", "citations", "usage"):
        assert turn[field] == end[field]
    assert turn["sources"] == streamed[1].data["sources"]
    assert [citation["text"] for citation in turn["citations"]] == [PASSAGE]


async def test_the_terminal_tells_the_same(doors: Doors, world: World) -> None:
    world.model.script(Reply(tokens=TOKENS, always=True))
    printed = await asyncio.to_thread(manage, "chat", "--tenant", "acme", "--assistant", "guide", QUESTION)
    assert printed.startswith(f"[1] Manual › First use, page 3\n{ANSWER}\n")


@pytest.mark.parametrize("door", ["sse", "socket"])
async def test_who_leaves_in_mid_answer_finds_it_whole(doors: Doors, world: World, door: str) -> None:
    world.model.script(Reply(tokens=TOKENS, always=True, delay=0.1, lingers_after=3))
    if door == "sse":
        async with doors.stream(QUESTION) as events:
            seen = await until(events, 2)
    else:
        async with doors.socket() as socket:
            await say(socket, type="ask", assistant="guide", text=QUESTION)
            seen = await until(heard(socket), 2)
    turn_id = seen[0].data["turn"]
    assert (await doors.turn(turn_id))["state"] == "running"
    world.model.hurry()

    async with doors.follow(turn_id, seen[-1].cursor) as events:
        rest = [event async for event in events]
    assert [kind for kind, _ in told(rest)] == ["token", "turn.finished"]
    assert "".join(event.data["text"] for event in [*seen, *rest] if event.type == "token") == ANSWER
    assert (await doors.turn(turn_id))["text"] == ANSWER


async def test_a_socket_resumes_where_another_broke(doors: Doors, world: World) -> None:
    world.model.script(Reply(tokens=TOKENS, always=True, delay=0.1))
    async with doors.socket() as socket:
        await say(socket, type="ask", assistant="guide", text=QUESTION, client_id="q-1")
        seen = await until(heard(socket), 2)
    async with doors.socket() as socket:
        await say(socket, type="resume", turn=seen[0].data["turn"], after=seen[-1].cursor)
        rest = [event async for event in heard(socket)]
    assert {event.data["client_id"] for event in [*seen, *rest]} == {"q-1"}
    assert "".join(event.data["text"] for event in [*seen, *rest] if event.type == "token") == ANSWER


@pytest.mark.parametrize("door", ["rest", "socket"])
async def test_stop_in_mid_answer_keeps_what_was_said(doors: Doors, world: World, door: str) -> None:
    world.model.script(Reply(tokens=["on ", "and "], endless=True, always=True, delay=0.05))
    async with doors.socket() as socket, doors.http() as http:
        await say(socket, type="ask", assistant="guide", text=QUESTION)
        seen = await until(heard(socket), 3)
        turn_id = seen[0].data["turn"]
        if door == "rest":
            stopped = (await http.post(f"/turns/{turn_id}/stop")).raise_for_status().json()
            assert stopped["state"] == "stopped"
        else:
            await say(socket, type="stop", turn=turn_id)
        seen += [event async for event in heard(socket)]
    said = "".join(event.data["text"] for event in seen if event.type == "token")
    end = seen[-1].data
    assert (end["state"], end["finish_reason"]) == ("stopped", "stopped")
    assert said.startswith("on and on ")
    assert said == end["text"] == (await doors.turn(turn_id))["text"]
    # The model server was told as well: nobody pays for what nobody reads.
    async with asyncio.timeout(60):
        while world.model.requests("/v1/chat/completions")[-1]["disconnected_at"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
