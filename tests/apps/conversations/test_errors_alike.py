"""Each exception, raised beneath each door, reaches the client in the same shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError

from apps.conversations import asking
from apps.edge.errors import STATUS, ServiceUnavailable, close_code_of, status_of
from chatbot import errors
from tests.apps.conversations.conftest import Api, World, read_sse
from tests.apps.conversations.test_openai_api import chat, chunks
from tests.apps.conversations.test_websocket import Socket


def all_kinds(kind: type[errors.ParleyError]) -> Iterator[type[errors.ParleyError]]:
    """With what its subclasses are, but for the failures of documents: those are told in the document, by no door."""
    yield kind
    if kind is not errors.ExtractionFailed:
        for child in kind.__subclasses__():
            yield from all_kinds(child)


PLAIN = [kind for kind in all_kinds(errors.ParleyError) if kind.__init__ is errors.ParleyError.__init__]


def test_every_exception_of_the_tree_has_a_status() -> None:
    assert {kind for kind in PLAIN if status_of(kind()) == 500} == {errors.ParleyError, errors.ModelError}


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in PLAIN if kind not in (errors.ModelError, errors.OtherModel)]
    assert len(codes) == len(set(codes))


def test_close_codes_follow_the_statuses() -> None:
    assert {close_code_of(kind()) for kind in STATUS} == {4000 + status for status in STATUS.values()}
    assert close_code_of(errors.ParleyError()) == 1011


@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: kind.__name__)
async def test_the_same_body_through_every_door(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch, kind: type[errors.ParleyError]
) -> None:
    """Raised where every door must pass: as the question is checked."""
    error = kind(retry_after=3, fields={"text": "Because."})

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(asking, "question_in", refuse)
    rest = await api.ask(world.turns, "x")
    sse = await api.ask(world.turns, "x", Accept="text/event-stream")
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    await socket.hear()
    await socket.say(type="ask", conversation=str(world.conversation.pk), text="x")
    frame = await socket.hear()
    await socket.disconnect()
    openai = await chat(api, "x")
    streamed = await chat(api, "x", stream=True)
    assert frame.pop("type") == "error"
    assert rest.status_code == sse.status_code == openai.status_code == streamed.status_code == status_of(error)
    assert _opened(openai.json()) == _opened(streamed.json()) == _anonymous(rest.json())
    assert openai.json()["error"]["message"] == f"{error.message} text: Because."
    assert openai["Retry-After"] == "3"
    assert openai["retry-after-ms"] == "3000"
    assert _anonymous(rest.json()) == _anonymous(sse.json()) == _anonymous(frame)
    assert rest.json()["code"] == kind.code
    assert rest["Retry-After"] == "3"


async def test_a_database_that_does_not_answer_is_a_503(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("the password is hunter2")

    monkeypatch.setattr(asking, "open_turn", fail)
    response = await api.ask(world.turns, "x")
    assert (response.status_code, response.json()["code"]) == (503, ServiceUnavailable.code)
    assert "hunter2" not in response.content.decode()


async def test_a_bug_is_a_500_that_tells_nothing(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("the password is hunter2")

    monkeypatch.setattr(asking, "open_turn", fail)
    response = await api.ask(world.turns, "x")
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "hunter2" not in response.content.decode()


async def test_a_failure_in_mid_answer_has_one_body_too(world: World, api: Api) -> None:
    bodies = []
    world.script("half", cut_after=1)
    bodies.append((await api.ask(world.turns, "x")).json())
    world.script("half", cut_after=1)
    response = await api.ask(world.turns, "x", Accept="text/event-stream")
    bodies.append([event async for event in read_sse(response)][-1].body)
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    await socket.hear()
    world.script("half", cut_after=1)
    await socket.say(type="ask", conversation=str(world.conversation.pk), text="x")
    frame = (await socket.hear_turn())[-1]
    await socket.disconnect()
    bodies.append({name: value for name, value in frame.items() if name not in {"type", "id"}})
    envelopes = []
    for stream in (False, True):
        world.script("half", cut_after=1, delay=0.05)
        answer = await chat(api, "x", stream=stream)
        envelopes.append((await chunks(answer))[-1] if stream else answer.json())
    assert all(body["turn"] and body["request_id"] for body in [*bodies, *(each["error"] for each in envelopes)])
    assert _anonymous(bodies[0]) == _anonymous(bodies[1]) == _anonymous(bodies[2])
    assert {_opened(envelope) for envelope in envelopes} == {_anonymous(bodies[0])}


def _opened(envelope: dict[str, Any]) -> str:
    """What OpenAI's envelope holds, as the other doors tell it: its message repeats the fields."""
    error = dict(envelope["error"])
    fields = error.get("fields", {})
    assert error.pop("type")
    assert error.pop("param") == next(iter(fields), None)
    told = "".join(f" {name}: {sentence}" for name, sentence in fields.items())
    return _anonymous({**error, "message": error["message"].removesuffix(told)})


def _anonymous(body: dict[str, Any]) -> str:
    """What must be alike: all but the ids of this request and turn."""
    return json.dumps(
        {name: value for name, value in body.items() if name not in {"request_id", "turn"}}, sort_keys=True
    )
