"""Where an asker stands with its limits, as each door tells it: what is left after a question, and at a refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apps.access import limiting
from apps.conversations import runner
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.tenants.scoping import platform_unit
from tests.apps.access.visiting import Page, token_for
from tests.apps.conversations.conftest import Api, World
from tests.apps.conversations.test_quotas import chat, limit
from tests.apps.conversations.test_websocket import Socket

MOST = 512  # tokens of the assistant's longest answer


@pytest.fixture(autouse=True)
def _no_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the edge; what is told is told of what may be used."""
    monkeypatch.setattr(limiting, "_buckets", lambda *_: [])


def items(header: str) -> dict[str, dict[str, str]]:
    """A list of the draft's: each limit's parameters by its name."""
    found = {}
    for item in header.split(", "):
        name, *parameters = item.split(";")
        found[name.strip('"')] = dict(parameter.split("=") for parameter in parameters)
    return found


async def again(world: World, api: Api, deed: str, **headers: str) -> Any:
    url = f"/api/v1/turns/{(await world.only_turn()).pk}/{deed}"
    return await api.post(url, {}, content_type="application/json", headers=headers)


@pytest.mark.parametrize("path", ["json", "sse", "regenerate", "continue", "chat", "stream", "embeddings"])
async def test_each_door_tells_what_is_left(world: World, api: Api, path: str) -> None:
    world.script(*["word "] * MOST, finish_reason="length")
    world.script("Prime", always=True)
    await api.ask(world.turns, "pump?")
    await limit(world, metric="requests", amount=10)
    match path:
        case "json":
            answer = await api.ask(world.turns, "pump?")
        case "sse":
            answer = await api.ask(world.turns, "pump?", Accept="text/event-stream")
        case "regenerate":
            answer = await again(world, api, "regenerate")
        case "continue":
            answer = await again(world, api, "continue", Accept="text/event-stream")
        case "chat":
            answer = await chat(api)
        case "stream":
            answer = await chat(api, stream=True)
        case _:
            call = {"model": "fake", "input": "pump"}
            answer = await api.post("/v1/embeddings", call, content_type="application/json")
    assert answer.status_code == 200, answer.content
    # One was asked before there was a limit: it counts.
    assert items(answer["RateLimit-Policy"]) == {"tenant.requests.day": {"q": "10", "w": "86400"}}
    [told] = items(answer["RateLimit"]).values()
    assert told["r"] == "8"
    assert 0 < int(told["t"]) <= 86_400
    assert answer.get("x-ratelimit-remaining-requests") == ("8" if path in {"chat", "stream", "embeddings"} else None)


async def test_openais_clients_are_told_of_requests_and_tokens(world: World, api: Api) -> None:
    await limit(world, metric="requests", window="minute", amount=60)
    await limit(world, metric="tokens", window="hour", amount=100_000)
    await limit(world, metric="tokens", amount=500_000)
    world.script("Prime", always=True)
    answer = await chat(api)
    assert (answer["x-ratelimit-limit-requests"], answer["x-ratelimit-remaining-requests"]) == ("60", "59")
    assert answer["x-ratelimit-reset-requests"] == "1s"  # one a second is earned back
    assert answer["x-ratelimit-limit-tokens"] == "100000", "the one with the least left"
    # All that it may cost is reserved while it is told.
    assert 100_000 - 10 * MOST < int(answer["x-ratelimit-remaining-tokens"]) < 100_000 - MOST
    assert answer["x-ratelimit-reset-tokens"].endswith("s")
    assert set(items(answer["RateLimit"])) == {"tenant.requests.minute", "tenant.tokens.hour"}


async def test_a_burst_is_earned_back_in_its_own_time(world: World, api: Api) -> None:
    await limit(world, metric="requests", window="minute", amount=6, burst=3)
    world.script("Prime", always=True)
    answer = await chat(api)
    assert items(answer["RateLimit-Policy"]) == {"tenant.requests.minute": {"q": "3", "w": "30"}}
    assert items(answer["RateLimit"]) == {"tenant.requests.minute": {"r": "2", "t": "10"}}


async def test_money_and_questions_at_once_are_told_in_whole_numbers(world: World, api: Api) -> None:
    def at_twenty() -> None:
        Endpoint.objects.filter(kind="chat").update(completion_price=20)
        gateway.forget()

    await platform_unit(at_twenty)
    await limit(world, metric="cost", window="month", amount="0.02")
    await limit(world, metric="turns", window="once", amount=4)
    world.script("Prime", always=True)
    answer = await chat(api)
    policy, left = items(answer["RateLimit-Policy"]), items(answer["RateLimit"])
    assert policy["tenant.turns.once"] == {"q": "4", "qu": '"concurrent-requests"'}
    assert left["tenant.turns.once"] == {"r": "3"}
    money = policy["tenant.cost.month"]
    assert (money["q"], money["qu"]) == ("20000", '"cost-millionths"')
    assert left["tenant.cost.month"]["r"] == str(20_000 - MOST * 20)
    refused = await chat(api, max_tokens=500)
    assert refused.status_code == 200
    await runner.drain(5)


async def test_a_refusal_tells_it_too(world: World, api: Api) -> None:
    await limit(world, metric="requests", amount=1)
    await limit(world, metric="tokens", window="month", amount=100_000)
    world.script("Prime", always=True)
    await chat(api)
    for refused in (await api.ask(world.turns, "pump?"), await chat(api)):
        assert refused.status_code == 429
        assert items(refused["RateLimit"])["tenant.requests.day"]["r"] == "0"
    assert (refused["x-ratelimit-limit-requests"], refused["x-ratelimit-remaining-requests"]) == ("1", "0")
    assert refused.json()["error"]["limit"]["name"] == "tenant.requests.day"


@pytest.mark.parametrize("path", ["json", "sse", "regenerate", "continue", "chat", "embeddings"])
async def test_each_door_names_the_limit_that_was_reached(world: World, api: Api, path: str) -> None:
    world.script(*["word "] * MOST, finish_reason="length")
    await api.ask(world.turns, "pump?")
    await limit(world, metric="requests", amount=1)
    match path:
        case "json":
            refused = await api.ask(world.turns, "pump?")
        case "sse":
            refused = await api.ask(world.turns, "pump?", Accept="text/event-stream")
        case "chat":
            refused = await chat(api, stream=True)
        case "embeddings":
            call = {"model": "fake", "input": "pump"}
            refused = await api.post("/v1/embeddings", call, content_type="application/json")
        case deed:
            refused = await again(world, api, deed)
    said = refused.json()
    limit_named = said.get("error", said)["limit"]
    assert refused.status_code == 429
    assert limit_named["reset"] > 0
    assert limit_named | {"reset": 1} == {"name": "tenant.requests.day", "limit": 1, "remaining": 0, "reset": 1}
    assert int(refused["Retry-After"]) > 0
    assert items(refused["RateLimit"])["tenant.requests.day"]["r"] == "0"
    assert world.key not in refused.content.decode() + str(refused.headers)


async def test_without_limits_nothing_is_told(world: World, api: Api) -> None:
    world.script("Prime", always=True)
    for answer in (await api.ask(world.turns, "pump?"), await chat(api)):
        assert not {name.lower() for name in answer.headers} & {"ratelimit", "ratelimit-policy"}
        assert "x-ratelimit-limit-requests" not in answer


async def test_what_does_not_refuse_is_not_told(world: World, api: Api) -> None:
    await limit(world, metric="requests", amount=1, hard=False)
    world.script("Prime", always=True)
    assert "RateLimit" not in await chat(api)


async def test_a_socket_tells_it_of_each_question(world: World) -> None:
    await limit(world, metric="requests", amount=2)
    world.script("Prime", always=True)
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()

    async def heard(until: str) -> list[dict[str, Any]]:
        frames = [json.loads(await socket.receive_from())]
        while frames[-1]["type"] != until:
            frames.append(json.loads(await socket.receive_from()))
        return frames

    assert [frame["type"] for frame in await heard("ready")] == ["ready"]
    for left in (1, 0):
        await socket.say(type="ask", conversation=str(world.conversation.pk), text="pump?")
        limits, *_, last = await heard("turn.finished")
        [told] = limits["limits"]
        assert told.pop("reset") > 0
        assert (limits["type"], told) == ("limits", {"name": "tenant.requests.day", "limit": 2, "remaining": left})
    for frame in ({"type": "ask", "assistant": "guide", "text": "pump?"}, {"type": "regenerate", "turn": last["turn"]}):
        await socket.say(**frame)
        limits, error = await heard("error")
        assert [told["remaining"] for told in limits["limits"]] == [0]
        assert (error["code"], error["limit"]["name"]) == ("quota_exceeded", "tenant.requests.day")
    await socket.disconnect()


async def test_a_visitor_learns_of_their_own_limits_alone(world: World) -> None:
    """What a workspace may spend is nothing for the readers of a web site."""
    await limit(world, level="visitor", metric="requests", amount=3)
    await limit(world, metric="requests", amount=2)
    await limit(world, level="key", metric="tokens", amount=10**6)
    world.script("Prime", always=True)
    page = Page(token=await token_for(world))
    conversation = (await page.say("conversations", {"assistant": "guide"})).json()["id"]
    answers = [await page.say(f"conversations/{conversation}/turns", {"text": "pump?"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert set(items(answers[0]["RateLimit"])) == {"visitor.requests.day"}
    assert set(items(answers[2]["RateLimit"])) == {"visitor.requests.day"}
    said = answers[2].json()
    assert (said["code"], "limit" in said) == ("quota_exceeded", False)
    assert said["retry_after"] > 0
    assert "workspace" not in said["message"]
