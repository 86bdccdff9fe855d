"""What a target does wrong is told as what it is, and nothing that it does lets a test hang.

The target is played: a server on a socket that speaks as Parley does, until it is told otherwise.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from aiohttp import web

from apps.loadtest import greeting
from apps.loadtest.doors import Target
from apps.loadtest.greeting import BadTarget
from apps.loadtest.plan import Plan, Stage
from apps.loadtest.running import Crowd
from apps.loadtest.tally import figures

Events = list[tuple[str, str, dict[str, Any]]]

FINISH = {"finish_reason": "stop", "usage": {"completion_tokens": 2}, "text": "ab"}
HEALTHY: Events = [
    ("1-1", "turn.started", {"turn": "t1", "conversation": "c1"}),
    ("1-2", "token", {"text": "a"}),
    ("1-3", "token", {"text": "b"}),
    ("1-4", "turn.finished", FINISH),
]


def block(cursor: str, kind: str, data: dict[str, Any]) -> bytes:
    return f"id: {cursor}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


@dataclass
class Played:
    """A target. events: what it says when it is asked; then it ends the stream, cuts it, or says no more. later: what
    it says to whoever comes back. stored: what it tells afterwards."""

    events: Events
    then: Literal["end", "cut", "hang"] = "end"
    later: Events = field(default_factory=list)
    stored: str = "ab"
    status: int = 200
    greets: bool = True
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        if self.status != 200:
            refusal = {"code": "model_busy", "message": "", "retry_after": 0.1}
            return web.json_response(refusal, status=self.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in self.events if request.method == "POST" else self.later:
            await response.write(block(*event))
        if self.then == "cut" and request.transport:
            request.transport.abort()
        if self.then == "hang":
            await self.over.wait()
        return response

    async def silence(self, _: web.Request) -> web.StreamResponse:
        await self.over.wait()
        raise web.HTTPGone

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its address."""
        app = web.Application()
        known = says({"results": [{"slug": "guide"}], "next": None})
        app.router.add_get("/api/v1/assistants", known if self.greets else self.silence)
        app.router.add_post("/api/v1/conversations", says({"id": "c1"}))
        app.router.add_post("/api/v1/conversations/c1/turns", self.stream)
        app.router.add_get("/api/v1/turns/t1/events", self.stream)
        app.router.add_get("/api/v1/turns/t1", says({"id": "t1", "text": self.stored}))
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            self.over.set()
            await runner.cleanup()


def says(body: dict[str, Any]) -> Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response(body)

    return handler


async def asked(target: Played, *, patience: float = 20.0, opens: bool = False, most: int = 100) -> dict[str, Any]:
    """The figures of some questions by SSE, all of them compared with what is stored."""
    async with target.serving() as url:
        return await asked_at(url, patience, opens, most)


async def asked_at(url: str, patience: float, opens: bool, most: int) -> dict[str, Any]:
    plan = Plan(
        {"sse": 1},
        [Stage(20 if opens else 2, 0.2)],
        opens=opens,
        think=0.05,
        turns=1,
        leaves=0.0,
        stops=0.0,
        verifies=1.0,
        patience=patience,
    )
    async with Target.reached(url, "key", "guide") as target:
        crowd = Crowd(plan, target, ["Is it on?"], most, print, asyncio.Event())
        seconds = await crowd.run()
    told = figures(crowd.tally, seconds)
    whole = told["all"]
    codes = sum(sum(whole[kind].values()) for kind in ("refused", "failed", "broken"))
    assert whole["started"] == whole["finished"] + codes + whole["cut"]
    return told


async def test_a_healthy_target_is_told_as_one() -> None:
    told = await asked(Played(HEALTHY))
    assert told["all"]["finished"] == told["all"]["started"] == told["all"]["compared"] > 0
    assert told["all"]["differing"] == []
    assert told["all"]["tokens"] == 2 * told["all"]["finished"]


async def test_in_an_open_loop_conversations_begin_whoever_waits() -> None:
    told = await asked(Played(HEALTHY[:1], then="hang"), patience=0.5, opens=True)
    assert told["all"]["started"] == 2  # a fifth of a second, from none to twenty a second
    assert told["all"]["broken"] == {"silent": 2}
    told = await asked(Played(HEALTHY[:1], then="hang"), patience=0.5, opens=True, most=1)
    assert (told["all"]["started"], told["generator"]["unbegun"]) == (1, 1)


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        ([*HEALTHY[:1], ("1-3", "token", {"text": "a"})], "does not follow"),
        ([*HEALTHY[:2], HEALTHY[1]], "does not follow"),
        ([*HEALTHY, ("1-5", "turn.finished", FINISH)], "came after the end"),
        ([("1-1", "turn.started", {"turn": "t1"})], "not understood"),
        ([("first", "token", {"text": "a"})], "not understood"),
    ],
)
async def test_what_may_not_come_is_broken(events: Events, wrong: str) -> None:
    told = await asked(Played(events, then="hang"), patience=5.0)
    assert not told["all"]["finished"]
    assert told["all"]["broken"]
    assert all(wrong in reason for reason in told["all"]["broken"])


async def test_an_answer_that_is_stored_otherwise_is_told() -> None:
    told = await asked(Played(HEALTHY, stored="ac"))
    assert set(told["all"]["differing"]) == {"t1"}
    assert told["all"]["finished"] == told["all"]["compared"] == len(told["all"]["differing"])


async def test_a_stream_that_breaks_off_is_come_back_to() -> None:
    told = await asked(Played(HEALTHY[:2], then="cut", later=HEALTHY[2:]))
    assert told["all"]["finished"] == told["all"]["started"] == told["all"]["came_back"] > 0


async def test_what_never_ends_is_broken_and_no_hang() -> None:
    told = await asked(Played(HEALTHY[:2], then="hang"), patience=1.5)
    assert set(told["all"]["broken"]) == {"silent"}
    told = await asked(Played(HEALTHY[:2], then="cut"), patience=1.5)
    assert set(told["all"]["broken"]) == {"lost"}


async def test_refusals_and_honest_errors_are_neither_broken_nor_finished() -> None:
    told = await asked(Played([], status=503))
    assert set(told["all"]["refused"]) == {"model_busy"}
    error = {"code": "model_failed", "message": "", "turn": "t1"}
    told = await asked(Played([HEALTHY[0], ("1-2", "error", error)]))
    assert set(told["all"]["failed"]) == {"model_failed"}
    assert not told["all"]["broken"]


async def test_a_target_that_cannot_be_tested_is_named_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Played(HEALTHY).serving() as url, Target.reached(url, "key", "other") as target:
        with pytest.raises(BadTarget, match="no assistant 'other'; the key sees guide"):
            await greeting.greet(target)
    async with Target.reached("http://127.0.0.1:9", "key", "guide") as target:
        with pytest.raises(BadTarget, match="Nothing answers at"):
            await greeting.greet(target)
    monkeypatch.setattr(greeting, "SECONDS", 0.2)
    async with Played(HEALTHY, greets=False).serving() as url, Target.reached(url, "key", "guide") as target:
        with pytest.raises(BadTarget, match=r"Nothing answers at .*\(TimeoutError\)"):
            await greeting.greet(target)
