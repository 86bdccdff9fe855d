"""Turns without a conversation: whose they are, what the model is told, and that nothing of them stays behind."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.conversations import asking, following, replicas, runner
from apps.conversations.models import Conversation, Message, Turn
from apps.conversations.opening import open_lone_turn
from apps.conversations.parties import assistant_of
from apps.conversations.question import Question, Sampling
from apps.conversations.tasks import ABANDONED_AFTER, close_abandoned_turns
from apps.conversations.turn import Opened
from apps.tenants.models import EndUser, Membership
from apps.tenants.scoping import platform_unit, unit
from apps.usage.models import UsageRecord
from chatbot.errors import IdempotencyConflict, InvalidRequest, NotFound
from chatbot.events import START, TurnFinished, TurnStarted
from tests import factories
from tests.apps.admin_world import logged_in
from tests.apps.conversations.conftest import Api, World

HISTORY = (("Is it a pump?", "It is."), ("Is it loud?", "A little."))


async def finished(world: World, question: Question, assistant: str = "guide") -> Turn:
    turn_id = await asking.ask_alone(world.caller, assistant, question)
    await following.last_event(following.follow(world.tenant, turn_id, START))
    return await world.turn(str(turn_id))


def told(world: World) -> list[tuple[str, str]]:
    """What the model server was asked last."""
    messages = [request for request in world.fake.requests if request.path.endswith("completions")][-1]
    return [(message["role"], message["content"]) for message in messages.payload["messages"]]


async def test_a_lone_turn_is_answered_stored_and_billed_once(world: World) -> None:
    world.script("Prime", " it [1].")
    turn = await finished(world, Question(text="how do I start the pump?", user="zoe", history=HISTORY))
    assert (turn.state, turn.conversation_id, turn.assistant_id) == ("finished", None, world.assistant.pk)
    assert turn.answer is not None
    assert (turn.question.text, turn.answer.text) == ("how do I start the pump?", "Prime it [1].")
    assert (await world.bill(turn.pk)).bill == "once"
    assert await platform_unit(Conversation.objects.count) == 1  # the world's own


async def test_the_askers_history_and_instructions_follow_the_prompt(world: World) -> None:
    await finished(world, Question(text="pump?", history=HISTORY, instructions="Answer in {{ rhyme }}."))
    (system, instructions), *rest = told(world)
    assert system == "system"
    assert instructions.startswith(f"You are {world.assistant.name}.")
    assert instructions.endswith("Answer in {{ rhyme }}.")
    assert rest == [
        ("user", "Is it a pump?"), ("assistant", "It is."), ("user", "Is it loud?"), ("assistant", "A little."),
        ("user", "pump?"),
    ]  # fmt: skip


@pytest.mark.parametrize(("wanted", "granted"), [(20, 20), (100_000, 512), (None, 512)])
async def test_the_askers_sampling_is_heeded_within_the_assistants_limits(
    world: World, wanted: int | None, granted: int
) -> None:
    sampling = Sampling(max_tokens=wanted, temperature=0.0, top_p=0.5, stop=("END",))
    await finished(world, Question(text="pump?", sampling=sampling))
    asked = [request for request in world.fake.requests if request.path.endswith("completions")][-1].payload
    assert (asked["max_tokens"], asked["temperature"], asked["top_p"], asked["stop"]) == (granted, 0.0, 0.5, ["END"])


async def test_an_assistant_is_named_by_slug_or_id_and_only_by_its_tenant(world: World) -> None:
    for name in (str(world.assistant.pk), world.assistant.pk.hex.upper()):
        assert (await finished(world, Question(text="pump?"), name)).assistant_id == world.assistant.pk
        assert await unit(assistant_of, world.caller, name) == world.assistant
    other = await platform_unit(lambda: factories.make_assistant(tenant=factories.make_tenant("other"), slug="theirs"))
    for name in ("theirs", str(other.pk), str(uuid.uuid4()), "nobody"):
        with pytest.raises(NotFound):
            await asking.ask_alone(world.caller, name, Question(text="pump?"))
    world.assistant.is_active = False
    await platform_unit(world.assistant.save)
    with pytest.raises(NotFound):
        await asking.ask_alone(world.caller, "guide", Question(text="pump?"))
    assert await platform_unit(UsageRecord.objects.count) == 2


async def test_an_assistant_without_a_published_prompt_is_not_ready(world: World) -> None:
    draft = await platform_unit(lambda: factories.make_prompt(tenant=world.tenant))
    draft.published = None
    await platform_unit(draft.save)
    world.assistant.prompt = draft
    await platform_unit(world.assistant.save)
    with pytest.raises(InvalidRequest):
        await asking.ask_alone(world.caller, "guide", Question(text="pump?"))


async def test_many_lone_turns_run_at_once(world: World) -> None:
    world.script("slow ", "answer", delay=0.1, always=True)
    turns = [await asking.ask_alone(world.caller, "guide", Question(text=f"pump {n}?", user="zoe")) for n in range(3)]
    ends = [await following.last_event(following.follow(world.tenant, turn_id, START)) for turn_id in turns]
    assert all(isinstance(end, TurnFinished) for end in ends)


async def test_it_is_its_end_users_alone(world: World, api: Api) -> None:
    turn = await finished(world, Question(text="pump?", user="zoe"))
    for user, status in (("", 200), ("zoe", 200), ("yan", 404)):
        response = await api.get(f"/api/v1/turns/{turn.pk}", {"user": user})
        assert response.status_code == status
    assert (await Api(world.outsider_key).get(f"/api/v1/turns/{turn.pk}")).status_code == 404
    assert (await api.get(f"/api/v1/turns/{turn.pk}")).json()["conversation"] is None


async def test_a_repeat_gets_the_first_turn_and_another_question_none(world: World) -> None:
    question = Question(text="pump?", idempotency_key="one", history=HISTORY)
    first = await asking.ask_alone(world.caller, "guide", question)
    assert await asking.ask_alone(world.caller, "guide", question) == first
    for other in (
        Question(text="pump?", idempotency_key="one"),
        Question(text="pump?", idempotency_key="one", history=HISTORY, instructions="Rhyme."),
        Question(text="pump?", idempotency_key="one", history=HISTORY, sampling=Sampling(temperature=1)),
    ):
        with pytest.raises(IdempotencyConflict):
            await asking.ask_alone(world.caller, "guide", other)
    await platform_unit(lambda: factories.make_assistant(tenant=world.tenant, slug="second"))
    with pytest.raises(IdempotencyConflict):
        await asking.ask_alone(world.caller, "second", question)
    conversation = await unit(asking.begin, world.caller, "guide")
    with pytest.raises(IdempotencyConflict):
        await asking.ask(world.caller, conversation.pk, question)
    assert await platform_unit(UsageRecord.objects.count) == 1


async def test_it_replays_from_what_is_stored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = await finished(world, Question(text="pump?"))
    monkeypatch.setattr(runner, "_running", {})
    (entries,) = [batch async for batch in following.follow(world.tenant, turn.pk, START)]
    started, end = entries[0].event, entries[-1].event
    assert isinstance(started, TurnStarted)
    assert started.conversation is None
    assert isinstance(end, TurnFinished)


async def test_one_of_a_dead_process_is_closed(world: World) -> None:
    opened = await open_lone_turn(world.caller, "guide", Question(text="pump?"), replica=replicas.ME)
    assert isinstance(opened, Opened)
    old = timezone.now() - ABANDONED_AFTER - dt.timedelta(seconds=1)
    await platform_unit(lambda: Turn.objects.update(created=old))
    assert await platform_unit(close_abandoned_turns) == 1
    assert (await world.turn(str(opened.turn_id))).state == "interrupted"
    assert (await world.bill(opened.turn_id)).bill == "loss"


@pytest.mark.parametrize("of", ["assistant", "end user"])
async def test_nothing_said_outlives_its_assistant_or_end_user(world: World, of: str) -> None:
    await finished(world, Question(text="pump?", user="zoe"))
    assert await platform_unit(Message.objects.count) == 2
    if of == "assistant":
        await platform_unit(world.assistant.delete)
    else:
        await platform_unit(lambda: EndUser.objects.get(external_id="zoe").delete())
    assert await platform_unit(Message.objects.count) == await platform_unit(Turn.objects.count) == 0
    assert (await platform_unit(UsageRecord.objects.get)).bill == "once"  # the ledger stays


async def test_the_admin_shows_it(world: World) -> None:
    turn = await finished(world, Question(text="how do I start it?", user="zoe"))

    def pages() -> tuple[str, str]:
        analyst = factories.make_member(tenant=world.tenant, email="bob@example.com", role=Membership.Role.ANALYST)
        client: Client = logged_in(analyst)
        listed = client.get(reverse("admin:conversations_turn_changelist"))
        shown = client.get(reverse("admin:conversations_turn_change", args=[turn.pk]))
        assert (listed.status_code, shown.status_code) == (200, 200)
        return listed.content.decode(), shown.content.decode()

    listed, shown = await platform_unit(pages)
    assert "how do I start it?" in listed
    assert "None: the client keeps it" in shown
    assert "zoe" in shown
    assert world.assistant.name in shown
