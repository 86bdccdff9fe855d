"""Row 31: the same idempotency key twenty times at once, on two replicas, is one request: one answer, one bill."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from apps.access.models import IdempotencyKey
from apps.conversations.models import Conversation, Turn
from apps.knowledge.models import Collection, Document
from apps.tenants.scoping import platform_unit
from apps.usage.models import UsageRecord
from apps.webhooks.models import Webhook
from tests.fakes.inference import Reply
from tests.journeys.client import Doors, say
from tests.journeys.conftest import World, model, web_process, world

__all__ = ["model", "world"]

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

AT_ONCE = 20
WORDS = ["one ", "answer ", "and ", "no ", "other"]
HOOK = {"name": "x", "url": "https://tickets.example/", "events": ["turn.finished"]}


@pytest.fixture(scope="module")
def replicas(world: World) -> Iterator[list[Doors]]:
    with ExitStack() as stack:
        yield [Doors(stack.enter_context(web_process(server)), world.key) for server in ("daphne", "uvicorn")]


@pytest.fixture(autouse=True)
def rows(django_db_blocker: Any) -> Iterator[None]:
    """What the replicas have committed."""
    with django_db_blocker.unblock():
        yield


async def at_once(replicas: list[Doors], path: str, body: Any, key: str, **headers: str) -> list[httpx.Response]:
    """The answers of both replicas, in turn."""
    async with replicas[0].http() as one, replicas[1].http() as two:
        sent = {"Idempotency-Key": key, **headers}
        doors = itertools.islice(itertools.cycle([one, two]), AT_ONCE)
        return await asyncio.gather(*(answered(door, path, body, sent) for door in doors))


async def answered(door: httpx.AsyncClient, path: str, body: Any, headers: dict[str, str]) -> httpx.Response:
    """Asks again by the same key where a store was late, as it may be on a busy machine."""
    async with asyncio.timeout(90):
        while (answer := await door.post(path, json=body, headers=headers)).status_code == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return answer


async def counted(*models: Any) -> list[int]:
    return await platform_unit(lambda: [model.objects.count() for model in models])


async def test_a_question(replicas: list[Doors], world: World) -> None:
    world.model.script(Reply(tokens=WORDS, always=True, delay=0.1))
    conversation = await replicas[0].conversation()
    before = await counted(Turn, UsageRecord)
    asked = len(world.model.requests("/v1/chat/completions"))
    answers = await at_once(replicas, f"/conversations/{conversation}/turns", {"text": "pump?"}, "question")
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["text"] for answer in answers} == {"".join(WORDS)}
    turn = {answer.json()["id"] for answer in answers}
    assert len(turn) == 1
    assert await counted(Turn, UsageRecord) == [count + 1 for count in before]
    assert len(world.model.requests("/v1/chat/completions")) == asked + 1
    [bill] = await platform_unit(lambda: list(UsageRecord.objects.filter(turn_id=turn.pop())))
    assert (bill.state, bill.bill) == ("settled", "once")
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == AT_ONCE - 1
    other = await at_once(replicas, f"/conversations/{conversation}/turns", {"text": "mill?"}, "question")
    assert {answer.status_code for answer in other} == {422}


async def test_a_question_whose_events_are_read(replicas: list[Doors], world: World) -> None:
    world.model.script(Reply(tokens=WORDS, always=True, delay=0.1))
    conversation = await replicas[0].conversation()
    path, accept = f"/conversations/{conversation}/turns", {"Accept": "text/event-stream"}
    answers = await at_once(replicas, path, {"text": "pump?"}, "events", **accept)
    ends = [json.loads(answer.text.rpartition("data: ")[2]) for answer in answers]
    assert len({(end["turn"], end["text"]) for end in ends}) == 1


async def test_an_answer_once_more(replicas: list[Doors], world: World) -> None:
    world.model.script(Reply(tokens=WORDS, always=True, delay=0.02))
    turn = (await replicas[0].ask("pump?"))["id"]
    before = await counted(Turn, UsageRecord)
    answers = await at_once(replicas, f"/turns/{turn}/regenerate", None, "again")
    assert len({(answer.status_code, answer.json()["id"]) for answer in answers}) == 1
    assert await counted(Turn, UsageRecord) == [count + 1 for count in before]


async def test_a_question_to_an_assistant_over_sockets(replicas: list[Doors], world: World) -> None:
    world.model.script(Reply(tokens=WORDS, always=True, delay=0.1))
    before = await counted(Conversation, Turn)

    async def ask(door: Doors) -> Any:
        async with door.socket() as socket:
            await say(socket, type="ask", assistant="guide", user="zoe", text="pump?", client_id="q-1")
            return json.loads(await socket.recv())

    doors = itertools.islice(itertools.cycle(replicas), AT_ONCE)
    frames = await asyncio.gather(*(ask(door) for door in doors))
    assert len({(frame["turn"], frame["conversation"]) for frame in frames}) == 1
    assert await counted(Conversation, Turn) == [count + 1 for count in before]


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/conversations", {"assistant": "guide", "user": "new"}, Conversation),
        ("/collections", {"name": "Of pumps"}, Collection),
        ("/webhooks", HOOK, Webhook),
        ("/documents", {"collection": "manuals", "title": "x", "text": "Prime it."}, Document),
    ],
)
async def test_what_else_is_created(replicas: list[Doors], path: str, body: dict[str, Any], kind: Any) -> None:
    [before] = await counted(kind)
    answers = await at_once(replicas, path, body, f"created {path}")
    assert len({(answer.status_code, answer.content) for answer in answers}) == 1, answers
    assert answers[0].status_code in {200, 201, 202}
    assert await counted(kind) == [before + 1]
    kept = await platform_unit(lambda: IdempotencyKey.objects.get(key=f"created {path}"))
    assert "whsec_" not in kept.body
