"""Taking over a turn whose process is gone, by what is left of it: a journal, a checkpoint, or only the question."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator

import pytest
import structlog

from apps.assistants.models import Assistant
from apps.conversations import following, replicas, runner, takeover
from apps.conversations.again import Deed
from apps.conversations.models import Replica, Turn
from apps.conversations.opening import open_again, open_lone_turn, open_turn
from apps.conversations.question import Question
from apps.conversations.turn import Opened
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.tenants.scoping import platform_unit
from chatbot.events import START, Event, Restarted, Token, TurnFinished
from chatbot.tokens import estimate
from tests import factories
from tests.apps.conversations.attached import allow
from tests.apps.conversations.conftest import PASSAGE, Api, World
from tests.fakes.dialects import VLLM
from tests.fakes.inference import FakeInference, Reply

SOURCE = {
    "n": 1, "chunk": "c", "document": "d", "title": "Manual", "heading": ["First use"], "page": 3, "text": PASSAGE,
    "score": 0.5,
}  # fmt: skip


@pytest.fixture
async def fake() -> AsyncIterator[FakeInference]:
    async with FakeInference(dialect=VLLM()) as server:
        yield server


async def left_by_a_dead_process(
    world: World, attachments: tuple[uuid.UUID, ...] | None = None, **state: object
) -> uuid.UUID:
    """A turn that a process opened which is no longer there."""
    await platform_unit(lambda: Endpoint.objects.filter(kind="chat").update(protocol="vllm"))
    gateway.forget()
    question = Question(text="pump?", request_id="the-request", attachments=attachments)
    opened = await open_turn(world.caller, world.conversation.pk, question, replica=uuid.uuid4())
    assert isinstance(opened, Opened)
    if state:
        await platform_unit(lambda: Turn.objects.filter(pk=opened.turn_id).update(**state))
    return opened.turn_id


async def events_of(world: World, turn_id: uuid.UUID) -> list[Event]:
    return [
        event async for batch in following.follow(world.tenant, turn_id, START) for _, event in batch
    ]  # fmt: skip


async def test_with_nothing_left_the_question_is_answered_from_the_beginning(world: World) -> None:
    turn_id = await left_by_a_dead_process(world)
    world.fake.script(Reply(tokens=["Prime ", "it."], always=True))
    assert await takeover.take_over(world.tenant.pk, turn_id)
    events = await events_of(world, turn_id)
    assert events[0] == Restarted(2, after=0, reset=True)
    assert isinstance(events[-1], TurnFinished)
    stored = await world.turn(str(turn_id))
    assert stored.answer
    assert (stored.state, stored.epoch, stored.answer.text) == ("finished", 2, "Prime it.")
    assert (await world.bill(turn_id)).bill == "once"


async def test_its_files_are_read_again(world: World) -> None:
    await allow(world)
    attached = await platform_unit(lambda: factories.make_attachment(conversation=world.conversation))
    turn_id = await left_by_a_dead_process(world, (attached.pk,))
    world.fake.script(Reply(tokens=["Ochre."], always=True))
    assert await takeover.take_over(world.tenant.pk, turn_id)
    assert isinstance((await events_of(world, turn_id))[-1], TurnFinished)
    assert attached.text in str(world.fake.requests[-1].payload)


async def test_a_checkpoint_is_gone_on_from(world: World) -> None:
    turn_id = await left_by_a_dead_process(world, partial="Prime ", sources=[SOURCE])
    world.fake.script(Reply(tokens=["Prime ", "it ", "[1]."], always=True))
    await takeover.take_over(world.tenant.pk, turn_id)
    events = await events_of(world, turn_id)
    assert "".join(event.text for event in events if isinstance(event, Token)) == "Prime it [1]."
    assert world.fake.requests[-1].prefix == "Prime"
    stored = await world.turn(str(turn_id))
    assert stored.answer
    assert (stored.answer.text, stored.partial) == ("Prime it [1].", "")


async def test_that_nothing_was_found_is_told_once_and_no_model_asked(world: World) -> None:
    await platform_unit(lambda: Assistant.objects.filter(pk=world.assistant.pk).update(least_relevance=0.9))
    name = await platform_unit(lambda: world.assistant.collections.get().name)
    said = f"I found nothing about this. I searched: {name}."
    turn_id = await left_by_a_dead_process(world, partial=said, sources=[])
    asked = len(world.fake.requests)
    await takeover.take_over(world.tenant.pk, turn_id)
    events = await events_of(world, turn_id)
    assert "".join(event.text for event in events if isinstance(event, Token)) == said
    assert len(world.fake.requests) == asked
    stored = await world.turn(str(turn_id))
    assert stored.answer
    assert (stored.answer.text, stored.finish_reason) == (said, "nothing_found")


@pytest.mark.parametrize("noted", ["", "Prime it "])
async def test_an_answer_that_goes_on_with_another_one_keeps_its_beginning_and_pays_for_the_rest(
    world: World, noted: str
) -> None:
    stopped = await left_by_a_dead_process(world, partial="Prime ", sources=[SOURCE], stopping=True)
    await takeover.take_over(world.tenant.pk, stopped)
    asked = Question(text="", request_id="again")
    opened = await open_again(world.caller, stopped, asked, Deed.CONTINUE, replica=uuid.uuid4())
    assert isinstance(opened, Opened)
    if noted:
        left = {"partial": noted, "sources": [SOURCE]}
        await platform_unit(lambda: Turn.objects.filter(pk=opened.turn_id).update(**left))
    world.fake.script(Reply(tokens=["Prime ", "it ", "[1]."], always=True))
    await takeover.take_over(world.tenant.pk, opened.turn_id)
    await events_of(world, opened.turn_id)
    stored = await world.turn(str(opened.turn_id))
    assert stored.answer
    assert (stored.state, stored.answer.text) == ("finished", "Prime it [1].")
    paid, bill = await world.bill(stopped), await world.bill(opened.turn_id)
    said_again = 1  # the blank at the seam, as models write it
    assert bill.completion_tokens == estimate(noted.removeprefix("Prime ")) + (1 if noted else 2) + said_again
    assert (paid.bill, bill.bill) == ("delivered", "once")


@pytest.mark.parametrize("_", range(5))
async def test_a_turn_is_claimed_once(world: World, _: int) -> None:
    turn_id = await left_by_a_dead_process(world)
    await platform_unit(lambda: Replica.objects.create(id=replicas.ME, name="here"))
    claims = await asyncio.gather(*(takeover.take_over(world.tenant.pk, turn_id) for _ in range(8)))
    assert claims.count(True) == 1
    await runner.drain(5)
    stored = await world.turn(str(turn_id))
    assert (stored.state, stored.epoch) == ("finished", 2)
    assert not await takeover.take_over(world.tenant.pk, turn_id)


async def test_a_turn_of_a_living_process_is_not_taken(world: World) -> None:
    turn_id = await left_by_a_dead_process(world)
    running = await world.turn(str(turn_id))
    await platform_unit(lambda: Replica.objects.create(id=running.replica, name="there"))
    assert not await takeover.take_over(world.tenant.pk, turn_id)
    assert (await world.turn(str(turn_id))).epoch == 1


async def test_a_stop_that_nobody_heard_is_obeyed(world: World) -> None:
    turn_id = await left_by_a_dead_process(world, partial="Prime [1] ", sources=[SOURCE], stopping=True)
    await takeover.take_over(world.tenant.pk, turn_id)
    stored = await world.turn(str(turn_id))
    assert stored.answer
    assert (stored.state, stored.answer.text) == ("stopped", "Prime [1] ")
    assert [source["n"] for source in stored.answer.citations] == [1]
    assert (await world.bill(turn_id)).bill == "delivered"


async def test_a_turn_whose_client_is_gone_ends_with_what_was_said(world: World) -> None:
    opened = await open_lone_turn(world.caller, "guide", Question(text="pump?"), replica=uuid.uuid4())
    assert isinstance(opened, Opened)
    await platform_unit(lambda: Turn.objects.update(partial="Prime "))
    await takeover.take_over(world.tenant.pk, opened.turn_id)
    stored = await world.turn(str(opened.turn_id))
    assert stored.answer
    assert (stored.state, stored.answer.text) == ("interrupted", "Prime ")
    assert (await world.bill(opened.turn_id)).bill == "loss"


async def test_a_turn_that_ends_every_process_is_given_to_no_other(world: World) -> None:
    turn_id = await left_by_a_dead_process(world, epoch=takeover.MOST_EPOCHS)
    await takeover.take_over(world.tenant.pk, turn_id)
    assert (await world.turn(str(turn_id))).state == "failed"


async def test_what_is_logged_of_it_belongs_to_the_request_that_asked(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    turn_id = await left_by_a_dead_process(world)
    structlog.contextvars.clear_contextvars()
    await takeover.claim_orphans()
    await events_of(world, turn_id)
    told = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    of_it = {line["event"]: line for line in told if line.get("turn") == str(turn_id)}
    assert of_it.keys() >= {"turn.taken_over", "turn.finished"}
    assert {(line["tenant"], line["request_id"]) for line in of_it.values()} == {("acme", "the-request")}


async def test_a_running_turn_notes_what_it_said(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CHECKPOINT_SECONDS", 0.02)
    world.script(*["word "] * 200, delay=0.02)
    streaming = asyncio.create_task(api.ask(world.turns, "pump?"))
    noted = ""
    async with asyncio.timeout(20):
        while not noted:
            await asyncio.sleep(0.02)
            noted = await platform_unit(lambda: Turn.objects.values_list("partial", flat=True).first() or "")
    assert ("word " * 200).startswith(noted)
    turn = await world.only_turn()
    assert [source["text"] for source in turn.sources] == [PASSAGE]
    runner.stop(turn.pk)
    await streaming
    assert (await world.turn(str(turn.pk))).partial == ""
