"""Limits at the doors: what fits is answered, what does not costs nothing, and the client learns which limit it was."""

from __future__ import annotations

import asyncio
import math
import uuid
from decimal import Decimal
from typing import Any

import pytest

from apps.conversations import opening, runner
from apps.conversations.models import Message, Turn
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.tenants.scoping import platform_unit
from apps.usage import limits, meter
from apps.usage.models import Plan, Quota, UsageRecord
from apps.usage.reconciling import reconcile
from chatbot.errors import QuotaExceeded
from chatbot.quota import Account, Amounts
from tests import factories
from tests.apps.conversations.conftest import Api, World, answers_of, read_sse

CHAT = "/v1/chat/completions"


async def limit(world: World, **fields: Any) -> Quota:
    return await platform_unit(lambda: factories.make_quota(tenant=world.tenant, **fields))


async def chat(api: Api, text: str = "pump?", **more: Any) -> Any:
    body = {"model": "guide", "messages": [{"role": "user", "content": text}], **more}
    return await api.post(CHAT, body, content_type="application/json")


async def rows(world: World) -> list[UsageRecord]:
    return await platform_unit(lambda: list(UsageRecord.objects.for_tenant(world.tenant)))


@pytest.fixture(params=[0.0, 60.0], ids=["Redis is awaited outside", "Redis is awaited within"])
def awaited(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "HELD_SECONDS", request.param)


async def test_of_many_at_once_exactly_as_many_are_answered_as_fit(awaited: None, world: World, api: Api) -> None:
    await limit(world, metric="requests", amount=10)
    world.script("Prime", " it.", always=True, delay=0.01)
    answers = await asyncio.gather(*(chat(api) for _ in range(40)))
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 30
    assert len(await rows(world)) == 10
    assert await platform_unit(Turn.objects.count) == 10
    assert await platform_unit(Message.objects.count) == 20
    await runner.drain(5)
    found = await reconcile(world.tenant, repair=False)
    assert (found.checked, found.differ) == (1, [])


async def test_of_many_at_once_in_one_conversation_the_others_cost_nothing(
    awaited: None, world: World, api: Api
) -> None:
    await limit(world, metric="requests", amount=10)
    await limit(world, metric="turns", window="once", amount=10)
    world.script("Prime", " it.", held=True)
    answers = await answers_of(world, *(api.ask(world.turns, "pump?") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert len(await rows(world)) == 1
    assert (await reconcile(world.tenant, repair=False)).differ == []


async def test_a_refusal_names_the_limit_what_is_left_and_when(world: World, api: Api) -> None:
    await limit(world, metric="requests", amount=1)
    world.script("Prime", always=True)
    await api.ask(world.turns, "pump?")
    refused = await api.ask(world.turns, "and then?")
    said = refused.json()
    assert refused.status_code == 429
    assert said["code"] == "quota_exceeded"
    assert said["limit"] | {"reset": 1} == {"name": "tenant.requests.day", "limit": 1, "remaining": 0, "reset": 1}
    assert said["message"] == "This workspace may use 1 question a day. Please try again later."
    assert int(refused["Retry-After"]) == math.ceil(said["retry_after"]) <= 86_400


async def test_a_repeat_touches_no_quota(world: World, api: Api) -> None:
    await limit(world, metric="requests", amount=1)
    world.script("Prime", always=True)
    key = {"Idempotency-Key": "once"}
    first, *others = [await api.ask(world.turns, "pump?", **key) for _ in range(3)]
    assert [answer.json()["id"] for answer in others] == [first.json()["id"]] * 2
    assert len(await rows(world)) == 1


async def test_repeats_that_come_at_once_are_one_where_only_one_may_run(world: World, api: Api) -> None:
    await limit(world, metric="turns", window="once", amount=1)
    world.script("Prime", always=True, delay=0.05)
    key = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(*(api.ask(world.turns, "pump?", **key) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_what_the_platform_failed_to_answer_is_given_back(world: World, api: Api) -> None:
    await limit(world, metric="requests", amount=1)
    world.script(status=500)
    world.script("Prime", always=True)
    failed = await api.ask(world.turns, "pump?")
    assert failed.status_code == 502
    assert (await api.ask(world.turns, "pump?")).status_code == 200
    assert (await api.ask(world.turns, "pump?")).status_code == 429


async def test_tokens_are_settled_to_what_was_used(world: World, api: Api) -> None:
    quota = await limit(world, metric="tokens", amount=100_000)
    world.script("Prime", " it.", always=True)
    await api.ask(world.turns, "pump?")
    [row] = await rows(world)
    used = row.prompt_tokens + row.completion_tokens
    assert (row.reserved_tokens, row.state) == (0, "settled")
    assert (await reconcile(world.tenant, repair=False)).differ == []

    def lower() -> None:
        quota.amount = used
        quota.save()
        limits.forget()

    await platform_unit(lower)
    assert (await api.ask(world.turns, "pump?")).json()["limit"]["remaining"] == 0


async def test_a_limit_below_what_is_used_refuses_new_questions_and_lets_running_ones_end(
    world: World, api: Api
) -> None:
    quota = await limit(world, metric="requests", amount=100)
    together = await limit(world, metric="turns", window="once", amount=50)
    world.script("Prime", " it", " well.", always=True, delay=0.4)
    running = await api.ask(world.turns, "pump?", Accept="text/event-stream")
    events = read_sse(running)
    seen = [await anext(events)]
    while seen[-1].type != "token":
        seen.append(await anext(events))

    def lower() -> None:
        Quota.objects.filter(pk=quota.pk).update(amount=1)
        Quota.objects.filter(pk=together.pk).update(amount=1)
        limits.forget()

    await platform_unit(lower)
    refused = [await chat(api) for _ in range(2)]
    assert [answer.status_code for answer in refused] == [429] * 2
    seen += [event async for event in events]
    assert (seen[-1].type, seen[-1].body["text"]) == ("turn.finished", "Prime it well.")
    [row] = await rows(world)
    assert (row.state, row.bill) == ("settled", "once")
    assert (await chat(api)).status_code == 429  # still: one is used
    assert (await reconcile(world.tenant, repair=False)).differ == []


async def test_a_new_user_has_the_plans_limits_from_the_first_burst_on(world: World, api: Api) -> None:
    def plan() -> None:
        default = Plan.objects.create(name="All", is_default=True)
        default.limits.create(level="user", metric="requests", window="minute", amount=6, burst=3)
        limits.forget()

    await platform_unit(plan)
    world.script("Prime", always=True)
    answers = await asyncio.gather(*(chat(api, user="somebody new") for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 9
    assert (await chat(api, user="another one")).status_code == 200
    refused = next(answer for answer in answers if answer.status_code == 429).json()["error"]
    assert refused["code"] == "rate_limited"
    assert 1 <= refused["retry_after"] <= 10  # six a minute


@pytest.mark.parametrize("path", ["regenerate", "embeddings", "stream", "conversation"])
async def test_every_path_draws_on_the_same_quota(world: World, api: Api, path: str) -> None:
    await limit(world, metric="requests", amount=1)
    world.script("Prime", always=True)
    first = (await api.ask(world.turns, "pump?")).json()
    match path:
        case "regenerate":
            again = f"/api/v1/turns/{first['id']}/regenerate"
            refused = await api.post(again, {}, content_type="application/json")
        case "embeddings":
            call = {"model": "fake", "input": "pump"}
            refused = await api.post("/v1/embeddings", call, content_type="application/json")
        case "stream":
            refused = await api.ask(world.turns, "pump?", Accept="text/event-stream")
        case _:
            refused = await chat(api)
    assert refused.status_code == 429
    assert len(await rows(world)) == 1


async def test_a_limit_of_one_key_is_that_keys_alone(world: World, api: Api) -> None:
    other = await platform_unit(lambda: factories.make_key(tenant=world.tenant))
    await limit(world, level="key", metric="requests", amount=1)
    world.script("Prime", always=True)
    assert [(await chat(api)).status_code for _ in range(2)] == [200, 429]
    assert [(await chat(Api(other))).status_code for _ in range(2)] == [200, 429]


async def test_what_is_not_hard_is_counted_and_not_refused(world: World, api: Api) -> None:
    await limit(world, metric="requests", amount=1, hard=False)
    world.script("Prime", always=True)
    assert [(await chat(api)).status_code for _ in range(3)] == [200] * 3


async def test_money_is_counted_at_the_endpoints_prices(world: World, api: Api) -> None:
    def at_twenty() -> None:
        Endpoint.objects.filter(kind="chat").update(completion_price=20)
        gateway.forget()

    await platform_unit(at_twenty)
    await limit(world, metric="cost", window="month", amount="0.02")
    world.script("Prime", " it.", held=True)
    world.script("Prime", " it.")
    # The longest answer, of 512 tokens, may cost 0.01024: one fits, and what it really cost leaves room for the next.
    at_once = await answers_of(world, *(chat(api) for _ in range(2)))
    assert sorted(answer.status_code for answer in at_once) == [200, 429]
    assert (await chat(api)).status_code == 200
    for row in await rows(world):
        assert row.cost == Decimal(row.completion_tokens * 20) / 1_000_000
    assert (await reconcile(world.tenant, repair=False)).differ == []


async def test_too_large_a_question_is_told_that_waiting_does_not_help(world: World, api: Api) -> None:
    await limit(world, metric="tokens", amount=100)
    refused = (await api.ask(world.turns, "pump?")).json()
    assert refused["message"].endswith("This question alone asks for more.")
    assert refused["retry_after"] == 86_400


async def test_what_redis_is_sent_twice_is_reserved_once(world: World) -> None:
    """As its client does where a connection broke off before the answer."""
    await limit(world, metric="requests", amount=1)
    reservation, accounts = uuid.uuid4(), [(Account("tenant"), "")]
    first, second = [await meter.reserve(world.tenant, reservation, accounts, Amounts(requests=1)) for _ in range(2)]
    assert second.at is not None
    assert first.at is not None
    assert abs((second.at - first.at).total_seconds()) < 0.001
    with pytest.raises(QuotaExceeded):
        await meter.reserve(world.tenant, uuid.uuid4(), accounts, Amounts(requests=1))
