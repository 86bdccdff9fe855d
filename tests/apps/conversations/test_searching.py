"""How a turn searches: follow-up questions rewritten if so switched, and no answer where nothing is known."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apps.assistants.models import Assistant
from apps.conversations import rewriting
from apps.tenants.scoping import platform_unit
from apps.usage.models import UsageRecord
from tests.apps.conversations.conftest import PASSAGE, Api, World
from tests.fakes.inference import Reply


async def switch(world: World, **changes: Any) -> None:
    await platform_unit(lambda: Assistant.objects.filter(pk=world.assistant.pk).update(**changes))


def chats(world: World) -> list[str]:
    """What the model was told last, in each call."""
    return [r.payload["messages"][-1]["content"] for r in world.fake.requests if "messages" in r.payload]


async def test_nothing_relevant_ends_without_a_model(world: World, api: Api) -> None:
    await switch(world, least_relevance=0.9)
    body = (await api.ask(world.turns, "Who won the world cup?")).json()
    assert (body["state"], body["finish_reason"], body["sources"]) == ("finished", "nothing_found", [])
    assert body["text"].startswith("I found nothing about this. I searched: Collection ")
    assert chats(world) == []
    bill = await world.bill(body["id"])
    assert (bill.bill, bill.prompt_tokens, bill.completion_tokens) == ("once", 0, 0)  # it counts as a question
    said = [{"role": "user", "content": "Who won the world cup?"}]
    call = {"model": "guide", "messages": said}
    answer = (await api.post("/v1/chat/completions", call, content_type="application/json")).json()
    assert answer["choices"][0]["message"]["content"] == body["text"]
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_something_relevant_is_answered(world: World, api: Api) -> None:
    await switch(world, least_relevance=0.9)
    world.script("Prime it [1].")
    body = (await api.ask(world.turns, PASSAGE)).json()
    assert (body["text"], body["finish_reason"]) == ("Prime it [1].", "stop")


async def test_while_nobody_knows_what_is_relevant_it_answers(world: World, api: Api) -> None:
    await switch(world, least_relevance=0.9)
    world.fake.script(Reply(kind="embedding", status=500, always=True))
    world.script("Prime it [1].")
    body = (await api.ask(world.turns, "prime the pump?")).json()
    assert body["finish_reason"] == "stop"


async def test_a_follow_up_is_searched_for_as_the_model_rewrote_it(world: World, api: Api) -> None:
    await switch(world, rewrites_questions=True, least_relevance=0.9)
    world.script("Yes [1].")
    await api.ask(world.turns, PASSAGE)
    assert len(chats(world)) == 1  # the first question stands for itself
    world.script(PASSAGE)
    world.script("Before the first brew [1].")
    body = (await api.ask(world.turns, "and when?")).json()
    assert body["text"] == "Before the first brew [1]."
    _, asked_to_rewrite, asked = chats(world)
    assert asked_to_rewrite.endswith("Last question: and when?")
    assert PASSAGE in asked_to_rewrite
    assert asked == "and when?"
    bill = await world.bill(body["id"])
    assert bill.completion_tokens == 2  # of both answers, each one token


async def test_what_rewriting_may_use_is_reserved_with_the_question(world: World, api: Api) -> None:
    reserved = []
    world.fake.script(Reply(tokens=["Yes."]), Reply(tokens=["Yes."], held=True, always=True))
    await api.ask(world.turns, "prime?")
    for rewrites in (False, True):
        await switch(world, rewrites_questions=rewrites)
        asking = asyncio.ensure_future(api.ask(world.turns, "and when?"))
        while not (open_ones := await platform_unit(lambda: list(UsageRecord.objects.filter(state="reserved")))):
            assert not asking.done()
            await asyncio.sleep(0.01)
        reserved.append(open_ones[0].reserved_tokens)
        for _ in range(1 + rewrites):
            world.fake.release()
        await asking
    assert reserved[1] > reserved[0] + rewriting.MAX_TOKENS


async def test_switched_off_it_costs_nothing(world: World, api: Api) -> None:
    world.script("Yes.", always=True)
    await api.ask(world.turns, "prime?")
    await api.ask(world.turns, "and when?")
    assert chats(world) == ["prime?", "and when?"]


async def test_what_a_rewriting_said_before_it_broke_off_is_billed(world: World, api: Api) -> None:
    await switch(world, rewrites_questions=True)
    world.script("Yes.")
    await api.ask(world.turns, "prime?")
    words = [f"word{number} " for number in range(20)]
    world.fake.script(Reply(tokens=words, cut_after=len(words)))
    world.script("Yes.")
    bill = await world.bill((await api.ask(world.turns, "and when?")).json()["id"])
    assert bill.completion_tokens > len(words)


@pytest.mark.parametrize("reply", [Reply(first_delay=30), Reply(status=400), Reply(tokens=["\n \n"])])
async def test_what_cannot_be_rewritten_is_searched_for_as_it_is(
    world: World, api: Api, reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewriting, "SECONDS", 1.0 if reply.first_delay else 30.0)
    await switch(world, rewrites_questions=True)
    world.script("Yes.")
    await api.ask(world.turns, "prime?")
    world.fake.script(reply)
    world.script("Before the first brew.")
    body = (await api.ask(world.turns, "and when?")).json()
    assert body["text"] == "Before the first brew."
