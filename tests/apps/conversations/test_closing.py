"""A turn ends once, settled, whatever the model server says and whatever is deleted while it answers."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest

from apps.conversations import asking, following, replicas, turn
from apps.conversations.models import Message, Turn
from apps.conversations.opening import open_lone_turn
from apps.conversations.question import Question
from apps.inference.models import Endpoint
from apps.tenants.models import ApiKey
from apps.tenants.scoping import platform_unit, unit
from apps.usage.models import UsageRecord
from chatbot.events import START, Event, Failed, TurnFinished, Usage
from tests.apps.conversations.conftest import Api, World


async def end_of(world: World, turn_id: uuid.UUID) -> Event:
    async with asyncio.timeout(30):
        return await following.last_event(following.follow(world.tenant, turn_id, START))


async def ask(world: World) -> uuid.UUID:
    return await asking.ask_alone(world.caller, "guide", Question(text="pump?"))


@pytest.mark.parametrize("reason", ["a finish reason longer than any", "st\0op", "☕"])
async def test_an_odd_finish_reason_ends_the_answer(world: World, reason: str) -> None:
    world.script("Prime ", "it.", finish_reason=reason)
    turn_id = await ask(world)
    end = await end_of(world, turn_id)
    assert isinstance(end, TurnFinished)
    assert (end.text, end.finish_reason) == ("Prime it.", "stop")
    assert (await world.bill(turn_id)).bill == "once"


@pytest.mark.parametrize("count", [2**31, 2**64 - 1, True])
async def test_an_odd_usage_is_estimated(world: World, count: int) -> None:
    usage = json.dumps({"choices": [], "usage": {"prompt_tokens": count, "completion_tokens": count}})
    world.script("Prime ", "it.", garbage=f"data: {usage}\n\n", no_usage=True)
    turn_id = await ask(world)
    assert isinstance(await end_of(world, turn_id), TurnFinished)
    bill = await world.bill(turn_id)
    assert (bill.bill, bill.estimated) == ("once", True)


async def test_an_endpoint_deleted_while_it_answers_ends_nothing(world: World) -> None:
    world.script("Prime ", "it.", held=True)
    turn_id = await ask(world)
    await world.fake.wait_received()
    await platform_unit(lambda: Endpoint.objects.filter(kind=Endpoint.Kind.CHAT).delete())
    world.fake.release()
    end = await end_of(world, turn_id)
    assert isinstance(end, TurnFinished)
    assert end.text == "Prime it."
    bill = await world.bill(turn_id)
    assert (bill.state, bill.bill, bill.endpoint_id) == ("settled", "once", None)


async def test_what_the_database_refuses_is_a_loss_and_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    close = turn.close_turn

    def unstorable(*args: object, **how: object) -> bool:
        outcome = args[3]
        assert isinstance(outcome, turn.Outcome)
        if outcome.text:
            outcome.text += "\0"
        return close(*args, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(turn, "close_turn", unstorable)
    world.script("Prime ", "it.")
    turn_id = await ask(world)
    end = await end_of(world, turn_id)
    assert isinstance(end, Failed)
    assert end.code == "internal"
    stored = await world.turn(str(turn_id))
    assert (stored.state, stored.error_code, stored.answer) == ("failed", "internal", None)
    assert (await world.bill(turn_id)).bill == "loss"


async def test_a_save_that_was_committed_unnoticed_is_kept_once(world: World) -> None:
    opened = await open_lone_turn(world.caller, "guide", Question(text="pump?"), replica=replicas.ME)
    assert isinstance(opened, turn.Opened)
    outcome = turn.Outcome(
        state=Turn.State.FINISHED, bill=UsageRecord.Bill.ONCE, text="Prime it.", usage=Usage(5, 3, estimated=False)
    )

    async def close(answer_id: uuid.UUID) -> bool:
        return await unit(
            turn.close_turn, opened.tenant, opened.turn_id, opened.epoch, outcome,
            conversation_id=None, answer_id=answer_id,
        )  # fmt: skip

    answer_id = uuid.uuid4()
    assert [await close(answer_id), await close(answer_id), await close(uuid.uuid4())] == [True, True, False]
    assert await platform_unit(Message.objects.filter(role=Message.Role.ASSISTANT).count) == 1
    assert (await world.bill(opened.turn_id)).completion_tokens == 3


async def test_what_is_deleted_while_a_question_is_opened_is_not_found(world: World, api: Api) -> None:
    assert (await api.ask(world.turns, "pump?")).status_code == 200
    await platform_unit(lambda: ApiKey.objects.for_tenant(world.tenant).delete())  # this process still believes the key
    response = await api.ask(world.turns, "pump?")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert await platform_unit(Turn.objects.count) == 1
