"""How much a question may cost, the server decides: a client's own numbers change nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings as django_settings

from apps.assistants.models import Assistant
from apps.conversations import consumers
from apps.conversations.models import Conversation, Turn
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.abuse.asking import CUT_OFF, DOORS, ask, first_turn, turns_of
from tests.abuse.conftest import bearer, send
from tests.apps.conversations.conftest import Api, World
from tests.apps.conversations.test_websocket import Socket

CAP = 20


@pytest.fixture
async def capped(world: World) -> World:
    await platform_unit(lambda: Assistant.objects.for_tenant(world.tenant).update(max_tokens=CAP))
    return world


GREEDY: dict[str, Any] = {
    "max_tokens": 10**9,
    "max_completion_tokens": 10**9,
    "max_new_tokens": 10**9,
    "best_of": 50,
    "top_k": 10**6,
    "endpoint": "the-dear-one",
    "base_url": "http://evil.example",
    "passages": 10**6,
    "rank": 9,
}


@pytest.mark.parametrize("door", DOORS)
async def test_no_door_takes_more(world: World, api: Api, door: str) -> None:
    """Neither of the model, nor of what is reserved."""
    turn = await first_turn(world, api)
    await platform_unit(lambda: Assistant.objects.for_tenant(world.tenant).update(max_tokens=CAP))
    quota = {"metric": "tokens", "window": "day", "amount": 30_000}
    await platform_unit(lambda: factories.make_quota(tenant=world.tenant, **quota))
    world.script("Prime", always=True)
    more = GREEDY if door in {"chat", "chunks"} else GREEDY | {"n": 50, "temperature": 2.0}
    answered = await ask(world, door, turn, **more)
    assert "code" not in answered, answered
    sent = world.fake.requests[-1].payload
    assert (sent["max_tokens"], sent["model"]) == (CAP, "fake")
    assert not {"n", "best_of", "max_completion_tokens", "max_new_tokens", "top_k"} & set(sent)


@pytest.mark.parametrize("door", DOORS)
async def test_no_door_lets_an_answer_go_on_without_end(world: World, api: Api, door: str) -> None:
    turn = await first_turn(world, api)
    await platform_unit(lambda: Assistant.objects.for_tenant(world.tenant).update(max_tokens=CAP))
    world.script("word ", endless=True)
    answered = await ask(world, door, turn)
    assert "code" not in answered, answered
    closed = (await turns_of(world))[-1]
    assert (closed.state, closed.finish_reason) == ("finished", "length")
    said = len((await world.turn(str(closed.pk))).answer.text)  # type: ignore[union-attr]
    assert said - (len("word ") * CUT_OFF if door.endswith("continue") else 0) < 100 * CAP


@pytest.mark.parametrize("door", ["json", "sse", "edit", "socket", "playground", "visitor", "visitor socket"])
async def test_no_door_takes_a_longer_question(world: World, api: Api, door: str) -> None:
    turn = await first_turn(world, api)
    refused = await ask(world, door, turn, text="x" * (django_settings.PARLEY_MAX_QUESTION_CHARS + 1))
    assert (refused["code"], list(refused["fields"])) == ("invalid_request", ["text"])
    assert len(await turns_of(world)) == 1


async def test_an_openai_client_brings_only_so_much(world: World, api: Api) -> None:
    longest = django_settings.PARLEY_MAX_QUESTION_CHARS

    async def chat(*messages: tuple[str, str], **more: Any) -> Any:
        said = [{"role": role, "content": text} for role, text in messages]
        body = {"model": "guide", "messages": said, **more}
        return await api.post("/v1/chat/completions", body, content_type="application/json")

    question = ("user", "pump?")
    for messages, status in (
        ([("user", "x" * (longest + 1))], 400),
        ([question, ("assistant", "Prime")] * 501 + [question], 400),
        ([("system", "word " * 100_000), question], 400),  # instructions beyond the model's context window
        ([("user", "x" * 2**20)], 413),
    ):
        assert (await chat(*messages)).status_code == status
    assert {turn.state for turn in await turns_of(world)} == {"failed"}  # the third, which no model was asked
    assert not [request for request in world.fake.requests if "messages" in request.payload]
    # A history beyond it is cut to what fits, and what was said last is kept.
    old = [("user", "word " * 3_000), ("assistant", "word " * 3_000)] * 5
    assert (await chat(*old, ("user", "latest"), ("assistant", "Prime"), question)).status_code == 200
    sent = world.fake.requests[-1].payload["messages"]
    assert sum(len(message["content"]) for message in sent) < 5 * 8192
    assert any("latest" in message["content"] for message in sent)
    for more in ({"n": 2}, {"max_tokens": 0}, {"max_tokens": "many"}, {"stop": ["x"] * 5}):
        assert (await chat(question, **more)).status_code == 400


async def test_a_call_for_embeddings_has_a_most(world: World, api: Api) -> None:
    for texts, status in ((["x"] * 2049, 400), (["x" * 32_001], 400), (["x" * 20_000] * 60, 413), ([], 400)):
        call = {"model": "fake", "input": texts}
        assert (await api.post("/v1/embeddings", call, content_type="application/json")).status_code == status
    assert not world.fake.requests


async def test_a_client_cannot_ask_for_more(capped: World, api: Api) -> None:
    greedy: dict[str, Any] = {"max_tokens": 10**9, "n": 50, "best_of": 50, "temperature": 99, "stream": False}
    greedy |= {"max_completion_tokens": 10**9, "model": "the-dear-one", "base_url": "http://evil.example", "stop": []}
    response = await api.post(capped.turns, {"text": "pump?", **greedy}, content_type="application/json")
    assert response.status_code == 200
    sent = capped.fake.requests[-1].payload
    assert (sent["max_tokens"], sent["model"], sent["stream"]) == (CAP, "fake", True)
    assert not {"n", "best_of", "max_completion_tokens", "stop"} & set(sent)
    assert sent["temperature"] < 3


async def test_an_openai_client_cannot_either(capped: World, api: Api) -> None:
    body: dict[str, Any] = {"model": "guide", "messages": [{"role": "user", "content": "pump?"}]}
    body |= {"max_tokens": 10**9, "max_completion_tokens": 10**9, "best_of": 50, "base_url": "http://evil.example"}
    response = await api.post("/v1/chat/completions", body, content_type="application/json")
    assert response.status_code == 200
    sent = capped.fake.requests[-1].payload
    assert (sent["max_tokens"], sent["model"]) == (CAP, "fake")
    assert not {"n", "best_of", "max_completion_tokens", "stop"} & set(sent)
    greedy = await api.post("/v1/chat/completions", {**body, "n": 50}, content_type="application/json")
    assert greedy.status_code == 400


async def test_an_answer_without_end_ends(capped: World, api: Api) -> None:
    capped.script("word ", endless=True)
    response = await api.ask(capped.turns, "Tell me everything")
    turn = response.json()
    assert (response.status_code, turn["finish_reason"]) == (200, "length")
    assert len(turn["text"]) < 100 * CAP


async def test_a_socket_follows_a_few_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question beyond them is refused before it costs anything."""
    monkeypatch.setattr(consumers, "MAX_FOLLOWED", 2)
    world.script(*["word "] * 100, delay=0.05)
    world.script(*["word "] * 100, delay=0.05)
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    await socket.hear()
    for client_id in ("1", "2", "3"):
        await socket.say(type="ask", assistant="guide", text="pump?", client_id=client_id)
    heard = await socket.hear()
    while heard.get("client_id") != "3":
        heard = await socket.hear()
    await socket.disconnect()
    assert (heard["type"], heard["code"]) == ("error", "invalid_request")
    assert await platform_unit(Turn.objects.count) == await platform_unit(Conversation.objects.count) - 1 == 2, (
        "one began before"
    )


async def test_a_question_has_a_longest(world: World, api: Api) -> None:
    longest = django_settings.PARLEY_MAX_QUESTION_CHARS
    assert (await api.ask(world.turns, "x " * longest)).status_code == 400
    body = {"collection": "x", "query": "x" * (longest + 1)}
    assert (await api.post("/api/v1/search", body, content_type="application/json")).status_code == 400


@pytest.mark.parametrize("limit", [51, 10**9, -1, 0, "1e9", 1.5, None, [], True])
async def test_a_search_has_a_most(world: World, limit: Any) -> None:
    slug = await platform_unit(lambda: world.assistant.collections.get().slug)
    body = json.dumps({"collection": slug, "query": "pump", "limit": limit}).encode()
    headers = bearer(world.key) | {b"content-type": b"application/json"}
    answer = await send("POST", "/api/v1/search", headers, body)
    assert answer.status == 400


async def test_a_page_has_a_most(world: World) -> None:
    for limit, status in (("100000", 200), ("-1", 400), ("0", 400), ("x", 400)):
        answer = await send("GET", "/api/v1/conversations", bearer(world.key), query=f"limit={limit}".encode())
        assert answer.status == status
