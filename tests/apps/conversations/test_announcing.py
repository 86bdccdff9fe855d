"""However a turn ends, the tenant's webhooks are told, once, and nothing of what was said."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from typing import Any

import orjson
import pytest
from django.utils import timezone

from apps.conversations import announcing, replicas, runner, turn
from apps.conversations.models import Turn
from apps.conversations.opening import open_turn
from apps.conversations.question import Question
from apps.conversations.tasks import ABANDONED_AFTER, close_abandoned_turns
from apps.conversations.turn import Opened
from apps.tenants.scoping import platform_unit, unit
from apps.usage.models import UsageRecord
from apps.webhooks.models import Delivery, Event
from apps.webhooks.registration import register
from tests import factories
from tests.apps.conversations.conftest import Api, World, read_sse
from tests.fakes.inference import Reply

SECRETS = ("canaryquestion", "canaryanswer", "primed before the first brew")


@pytest.fixture
async def listening(world: World) -> World:
    await platform_unit(register, world.tenant, name="x", url="https://r.example/", events=[Event.TURN_FINISHED])
    return world


async def announced(world: World) -> dict[str, Any]:
    delivery = await platform_unit(Delivery.objects.for_tenant(world.tenant).get)
    assert not any(word in orjson.dumps(delivery.data).decode() for word in SECRETS)
    data: dict[str, Any] = delivery.data
    return data


async def test_a_finished_turn(listening: World, api: Api) -> None:
    listening.script("canaryanswer [1].")
    answered = (await api.ask(listening.turns, "canaryquestion, pump?")).json()
    assert await announced(listening) == {
        "turn": answered["id"],
        "conversation": str(listening.conversation.pk),
        "assistant": "guide",
        "user": listening.conversation.end_user.external_id,
        "client_id": "",
        "state": "finished",
        "finish_reason": "stop",
        "error": None,
        "usage": answered["usage"],
    }


async def test_a_failed_turn(listening: World, api: Api) -> None:
    listening.fake.script(Reply(tokens=["canaryanswer"], error_event={"error": {"message": "canaryquestion"}}))
    response = await api.ask(listening.turns, "canaryquestion")
    data = await announced(listening)
    assert (data["turn"], data["error"]) == (response.json()["turn"], response.json()["code"])
    assert data["state"] in {"interrupted", "failed"}


async def test_a_stopped_turn(listening: World, api: Api) -> None:
    listening.script(*["canaryanswer "] * 200, delay=0.02)
    async for event in read_sse(await api.ask(listening.turns, "canaryquestion", Accept="text/event-stream")):
        if event.type == "token":
            runner.stop((await listening.only_turn()).pk)
    data = await announced(listening)
    assert (data["state"], data["finish_reason"]) == ("stopped", "stopped")


async def opened(world: World) -> Opened:
    found = await open_turn(world.caller, world.conversation.pk, Question(text="canaryquestion"), replica=replicas.ME)
    assert isinstance(found, Opened)
    return found


async def test_a_turn_of_a_dead_process(listening: World) -> None:
    await opened(listening)
    await platform_unit(lambda: Turn.objects.update(created=timezone.now() - ABANDONED_AFTER - dt.timedelta(seconds=1)))
    assert await platform_unit(close_abandoned_turns) == 1
    data = await announced(listening)
    assert (data["state"], data["error"]) == ("interrupted", "service_unavailable")


def closing(what: Opened) -> Any:
    outcome = turn.Outcome(state=Turn.State.FINISHED, bill=UsageRecord.Bill.ONCE, text="canaryanswer")
    return unit(
        turn.close_turn, what.tenant, what.turn_id, what.epoch, outcome,
        conversation_id=what.conversation_id, answer_id=uuid.uuid4(),
    )  # fmt: skip


async def test_whoever_closes_it_it_is_told_once(listening: World) -> None:
    what = await opened(listening)
    assert sorted(await asyncio.gather(*(closing(what) for _ in range(8)))) == [False] * 7 + [True]
    assert (await announced(listening))["state"] == "finished"


async def test_a_turn_whose_closing_fails_is_not_told(listening: World, monkeypatch: pytest.MonkeyPatch) -> None:
    what = await opened(listening)
    tell = announcing.turn_finished

    def tell_and_fail(*arguments: Any) -> None:
        tell(*arguments)
        raise ZeroDivisionError

    monkeypatch.setattr(announcing, "turn_finished", tell_and_fail)
    with pytest.raises(ZeroDivisionError):
        await closing(what)
    assert await platform_unit(Delivery.objects.for_tenant(listening.tenant).count) == 0
    monkeypatch.setattr(announcing, "turn_finished", tell)
    assert await closing(what)
    assert (await announced(listening))["state"] == "finished"


async def test_only_of_the_assistant_that_was_chosen(world: World, api: Api) -> None:
    other = await platform_unit(factories.make_assistant, tenant=world.tenant)
    webhooks = []
    for only in ([world.assistant.pk], [other.pk], []):
        fields: dict[str, Any] = {
            "name": "x",
            "url": "https://r.example/",
            "events": [Event.TURN_FINISHED],
            "assistants": only,
        }
        webhooks.append(await platform_unit(register, world.tenant, **fields))
    await api.ask(world.turns, "pump?")
    told = await platform_unit(lambda: set(Delivery.objects.for_tenant(world.tenant).values_list("webhook", flat=True)))
    assert told == {webhooks[0].pk, webhooks[2].pk}
