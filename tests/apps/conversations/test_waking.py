"""Turns whose only model server sleeps: they start it, readers hear of it, and they end in an answer or honestly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from apps.assistants.models import Assistant
from apps.conversations.explaining import told, turn_of
from apps.conversations.models import Turn
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.tenants.scoping import platform_unit, unit
from chatbot.events import Queued, read_event
from chatbot.inference import waking
from tests.apps.conversations.conftest import Api, Seen, World, read_sse
from tests.fakes.hub import TOKEN, Behind, FakeHub, Kept
from tests.fakes.inference import FakeInference, Reply


@pytest.fixture
async def sleeper(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kept]:
    """The chat endpoint is a dedicated one that sleeps."""
    monkeypatch.setattr(waking, "POLL", 0.05)
    monkeypatch.setattr(waking, "TELL_EVERY", 0.1)
    kept = Kept("acme/sleeper", "", "paused", states=["initializing"] * 8 + ["running"])
    async with FakeHub(kept) as hub, FakeInference(dialect=Behind(kept)) as fake:
        hub.point_at(monkeypatch)
        fake.script(Reply(tokens=["Prime ", "it."], always=True))
        kept.url = fake.base_url
        await change(base_url=kept.url, protocol="hf", api_key=TOKEN, wake_seconds=60, hub_name="acme/sleeper")
        yield kept


async def change(**fields: Any) -> None:
    await platform_unit(lambda: Endpoint.objects.filter(kind=Endpoint.Kind.CHAT).update(**fields))
    gateway.forget()


async def ask(world: World, api: Api) -> list[Seen]:
    answer = await api.ask(world.turns, "pump?", Accept="text/event-stream")
    return [event async for event in read_sse(answer)]


async def test_the_readers_hear_that_it_is_started_and_get_the_answer(world: World, api: Api, sleeper: Kept) -> None:
    events = await ask(world, api)
    heard = [event.body for event in events if event.type == "queued"]
    assert [event.type for event in events][:3] == ["turn.started", "sources", "queued"]
    assert "initializing" in [body["waking"] for body in heard]
    assert {(body["position"], body["wait"], body["approximate"]) for body in heard} == {(1, None, True)}
    assert events[-1].body["text"] == "Prime it."
    assert sleeper.started == 1
    turn = await world.only_turn()
    assert turn.story["woken_ms"] > 100
    explained = await unit(lambda tenant: dict(told(cast("Turn", turn_of(tenant, str(turn.pk))))), world.tenant)
    assert "waited for" in explained["Started"][0]
    assert "one that was asleep had been started" in explained["Server"][0]


async def test_a_turn_that_waits_can_be_stopped(world: World, api: Api, sleeper: Kept) -> None:
    sleeper.states = ["initializing"]
    reading = asyncio.create_task(ask(world, api))
    async with asyncio.timeout(30):
        while not sleeper.started:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)
    stopped = await api.post(f"/api/v1/turns/{(await world.only_turn()).pk}/stop")
    assert stopped.status_code == 200
    assert (await reading)[-1].body["state"] == "stopped"


async def test_where_it_is_not_there_in_time_the_passages_are_shown(world: World, api: Api, sleeper: Kept) -> None:
    sleeper.states = ["initializing"]
    await change(wake_seconds=1)
    assert (await ask(world, api))[-1].body["finish_reason"] == "sources_only"


async def test_without_passages_the_error_says_when_to_come_back(world: World, api: Api, sleeper: Kept) -> None:
    sleeper.states = ["initializing"]
    await change(wake_seconds=1)
    await platform_unit(lambda: Assistant.collections.through.objects.filter(assistant_id=world.assistant.pk).delete())
    answer = await api.ask(world.turns, "pump?")
    assert answer.status_code == 503
    body = answer.json()
    assert (body["code"], body["message"]) == ("model_unavailable", waking.TOO_LATE)
    assert body["retry_after"] == waking.RETRY_AFTER


def test_older_readers_get_what_they_know_where_nothing_sleeps() -> None:
    body = Queued(3, 1.5).payload()
    assert body == {"position": 3, "wait": 1.5, "approximate": True}
    assert read_event("queued", body) == Queued(3, 1.5)
    assert read_event("queued", Queued(1, None, waking="pending").payload()) == Queued(1, None, waking="pending")
