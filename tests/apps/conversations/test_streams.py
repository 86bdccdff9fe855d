"""What a stream of events is made of beside the events: how to come back, and signs of life."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apps.conversations import following
from apps.edge import frames
from tests.apps.conversations.conftest import Api, World, read_sse


async def blocks_of(response: Any) -> list[bytes]:
    return (b"".join([part async for part in response.streaming_content])).split(b"\n\n")[:-1]


async def test_the_first_event_says_when_to_come_back_and_no_other_does(world: World, api: Api) -> None:
    world.script("Prime ", "it.")
    asked = await blocks_of(await api.ask(world.turns, "pump?", Accept="text/event-stream"))
    turn = (await world.only_turn()).pk
    followed = await blocks_of(await api.get(f"/api/v1/turns/{turn}/events?after=1-2"))
    for blocks in (asked, followed):
        assert [block.startswith(b"retry: 2000\nid: ") for block in blocks] == [True] + [False] * (len(blocks) - 1)
        assert all(b"\ndata: " in block for block in blocks)
        assert sum(block.count(b"retry:") for block in blocks) == 1


async def test_headers_let_no_proxy_hold_it_back(world: World, api: Api) -> None:
    response = await api.ask(world.turns, "pump?", Accept="text/event-stream", **{"Accept-Encoding": "gzip, br"})
    assert response["Content-Type"] == "text/event-stream"
    assert (response["Cache-Control"], response["X-Accel-Buffering"]) == ("no-cache", "no")
    assert "Content-Encoding" not in response
    await blocks_of(response)


async def test_silence_is_filled_by_comments_which_carry_no_retry(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(following, "HEARTBEAT_SECONDS", 0.02)
    world.script("Prime", hang_after=1)
    parts = aiter((await api.ask(world.turns, "pump?", Accept="text/event-stream")).streaming_content)
    async with asyncio.timeout(30):
        said = [await anext(parts)]
        while said[-1] != b": keep-alive\n\n":
            said.append(await anext(parts))
    assert said[0].startswith(b"retry: 2000\nid: 1-1\n")
    assert b"retry" not in b"".join(said[1:])


async def test_openai_clients_are_told_nothing_that_they_do_not_know(world: World, api: Api) -> None:
    question = {"model": "guide", "stream": True, "messages": [{"role": "user", "content": "pump?"}]}
    response = await api.post("/v1/chat/completions", question, content_type="application/json")
    assert all(block.startswith((b"data: ", b": ")) for block in await blocks_of(response))


async def test_whoever_is_far_behind_gets_the_log_in_pieces(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that takes nothing must not have the rest of the turn waiting in one piece of its own."""
    monkeypatch.setattr(frames, "PIECE_BYTES", 500)
    world.script(*(f"w{n} " for n in range(95)))
    asked = [event async for event in read_sse(await api.ask(world.turns, "pump?", Accept="text/event-stream"))]
    again = await api.get(f"/api/v1/turns/{asked[0].body['turn']}/events")
    parts = [part async for part in again.streaming_content]
    assert all(len(part.rpartition(b"id: ")[0]) < 500 + len(b"retry: 2000\n") for part in parts)
    assert sum(part.count(b"\nevent: ") for part in parts) == len(asked)


def test_pieces_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "PIECE_BYTES", 10)
    blocks = [b"a" * 9, b"b", b"c" * 30, b"d"]
    assert list(frames.pieces(blocks)) == [b"a" * 9 + b"b", b"c" * 30, b"d"]
    assert list(frames.pieces([])) == []
