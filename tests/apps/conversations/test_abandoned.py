"""Turns whose process died, answers that could not be saved at once, and stored turns replayed."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from apps.conversations import following, replicas, runner, turn
from apps.conversations.journal import journal
from apps.conversations.models import Turn
from apps.conversations.opening import open_turn
from apps.conversations.question import Question
from apps.conversations.tasks import ABANDONED_AFTER, close_abandoned_turns
from apps.conversations.turn import Opened
from apps.tenants.scoping import platform_unit, unit
from apps.usage.models import UsageRecord
from chatbot.events import START
from tests.apps.conversations.conftest import Api, World, read_sse


async def _open(world: World, text: str = "pump?") -> Opened:
    opened = await open_turn(world.caller, world.conversation.pk, Question(text=text), replica=replicas.ME)
    assert isinstance(opened, Opened)
    return opened


async def test_a_turn_of_a_dead_process_ends_interrupted_and_free(world: World, api: Api) -> None:
    opened = await _open(world)
    assert await platform_unit(close_abandoned_turns) == 0
    old = timezone.now() - ABANDONED_AFTER - dt.timedelta(seconds=1)
    await platform_unit(lambda: Turn.objects.update(created=old))
    assert await platform_unit(close_abandoned_turns) == 1
    assert await platform_unit(close_abandoned_turns) == 0
    body = (await api.get(f"/api/v1/turns/{opened.turn_id}")).json()
    assert (body["state"], body["error"]["code"], body["question"]["text"]) == (
        "interrupted", "service_unavailable", "pump?",
    )  # fmt: skip
    assert (await world.bill(opened.turn_id)).bill == "loss"
    assert (await api.ask(world.turns, "again?")).status_code == 200


async def test_a_runner_that_lost_its_turn_writes_nothing(world: World) -> None:
    opened = await _open(world)
    await platform_unit(lambda: Turn.objects.update(epoch=2))
    outcome = turn.Outcome(state=Turn.State.FINISHED, bill=turn.UsageRecord.Bill.ONCE, text="late")
    closed = await unit(
        turn.close_turn, opened.tenant, opened.turn_id, opened.epoch, outcome,
        conversation_id=opened.conversation_id, answer_id=opened.question_id,
    )  # fmt: skip
    assert closed is False
    stored = await world.turn(str(opened.turn_id))
    assert (stored.state, stored.answer) == ("running", None)
    assert (await world.bill(opened.turn_id)).state == "reserved"


async def test_an_answer_waits_for_a_database_that_comes_back(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OperationalError("gone"), OperationalError("gone")])
    close = turn.close_turn

    def flaky(*args: Any, **kwargs: Any) -> bool:
        for error in failures:
            raise error
        return close(*args, **kwargs)

    monkeypatch.setattr(turn, "close_turn", flaky)
    monkeypatch.setattr(runner, "SAVE_RETRIES", (0.01, 0.01, 0.01))
    world.script("kept ", "answer")
    body = (await api.ask(world.turns, "pump?")).json()
    assert body["text"] == "kept answer"
    assert (await world.bill(body["id"])).bill == "once"


async def test_a_stored_turn_replays_to_the_same_end(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    world.script("Prime ", "it [1].", delay=0.02)
    live = [event async for event in read_sse(await api.ask(world.turns, "pump?", Accept="text/event-stream"))]
    monkeypatch.setattr(runner, "_running", {})
    await (await journal()).flush_all()
    await (await journal()).redis.flushall()
    url = f"/api/v1/turns/{live[0].body['turn']}/events"
    stored = [event async for event in read_sse(await api.get(url))]
    assert [event.type for event in stored] == ["turn.started", "sources", "token", "turn.finished"]
    assert "".join(event.body["text"] for event in stored if event.type == "token") == live[-1].body["text"]
    assert (stored[-1].cursor, stored[-1].body) == (live[-1].cursor, live[-1].body)
    partly = [event async for event in read_sse(await api.get(f"{url}?after={live[2].cursor}"))]
    assert partly[0].type == "restarted"
    assert partly[0].body == {"epoch": 1, "after": 0, "reset": True}
    assert [event.body for event in partly[1:]] == [event.body for event in stored]
    assert [event async for event in read_sse(await api.get(f"{url}?after={live[-1].cursor}"))] == []


async def test_a_turn_that_another_process_runs_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = await _open(world)

    silence = asyncio.Event()

    async def elsewhere() -> None:
        await silence.wait()
        outcome = turn.Outcome(
            state=Turn.State.FINISHED, bill=turn.UsageRecord.Bill.ONCE, text="from elsewhere", finish_reason="stop"
        )
        await unit(
            turn.close_turn, opened.tenant, opened.turn_id, opened.epoch, outcome,
            conversation_id=opened.conversation_id, answer_id=replicas.ME,
        )  # fmt: skip

    closing = asyncio.create_task(elsewhere())
    latest = []
    async for latest in following.follow(opened.tenant, opened.turn_id, START, idle=0.04):
        if not latest:
            silence.set()
    await closing
    assert latest[-1].event.type == "turn.finished"


async def test_a_bill_without_its_turn_is_settled_as_a_loss(world: World) -> None:
    opened = await _open(world)
    await platform_unit(world.assistant.delete)
    old = timezone.now() - ABANDONED_AFTER - dt.timedelta(seconds=1)
    await platform_unit(lambda: UsageRecord.objects.update(created=old))
    assert await platform_unit(close_abandoned_turns) == 1
    assert (await world.bill(opened.turn_id)).bill == "loss"
