"""Questions that find every model server busy: they wait in line, hear of their place, and are answered."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from apps.conversations.models import Turn
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.tenants.scoping import platform_unit
from tests.apps.conversations.conftest import Api, World, read_sse
from tests.fakes.inference import Reply


async def full(world: World, **reply: Any) -> None:
    """The model server takes one question at a time."""
    await platform_unit(lambda: Endpoint.objects.filter(kind=Endpoint.Kind.CHAT).update(limit=1))
    gateway.forget()
    world.fake.script(Reply(tokens=["Prime ", "it."], always=True, **reply))


async def ask(api: Api) -> list[Any]:
    begun = await api.post("/api/v1/conversations", {"assistant": "guide"}, content_type="application/json")
    answer = await api.ask(f"/api/v1/conversations/{begun.json()['id']}/turns", "pump?", Accept="text/event-stream")
    return [event async for event in read_sse(answer)]


async def test_they_are_told_their_place_and_answered(world: World, api: Api) -> None:
    world.script("Prime ", "it.", held=True, delay=0.2)
    await full(world, delay=0.2)
    asking = [asyncio.create_task(ask(api)) for _ in range(3)]
    async with asyncio.timeout(30):
        while sum(state.waiting for state in (await gateway.pool()).states()) < 2:  # noqa: ASYNC110 - no event for tests
            await asyncio.sleep(0.02)
    world.fake.release()
    answers = await asyncio.gather(*asking)
    waits = [[event.body for event in events if event.type == "queued"] for events in answers]
    assert sorted(bool(told) for told in waits) == [False, True, True]
    for events, told in zip(answers, waits, strict=True):
        kinds = [event.type for event in events]
        assert kinds[:2] == ["turn.started", "sources"]
        assert kinds[-1] == "turn.finished"
        assert events[-1].body["text"] == "Prime it."
        for one in told:
            assert one["approximate"] is True
            assert one["position"] in (1, 2)
    stories = await platform_unit(lambda: [turn.story for turn in Turn.objects.for_tenant(world.tenant)])
    shortest, *others = sorted(story["queued_ms"] for story in stories)
    assert shortest < min(others)
    assert min(others) > 100  # an answer takes 200 at least
    for story in stories:
        assert [one["verdict"] for one in story["considered"]] == ["chosen"]
        assert [attempt["error"] for attempt in story["attempts"]] == [""]


async def turns(world: World, count: int) -> list[uuid.UUID]:
    """As soon as there are so many."""
    async with asyncio.timeout(30):
        while True:
            found = await platform_unit(
                lambda: list(Turn.objects.for_tenant(world.tenant).values_list("pk", flat=True))
            )
            if len(found) == count:
                return found
            await asyncio.sleep(0.02)


async def test_one_that_leaves_the_line_gives_its_place_up(world: World, api: Api) -> None:
    await full(world, delay=1.0)
    first = asyncio.create_task(ask(api))
    [early] = await turns(world, 1)
    leaver = asyncio.create_task(ask(api))
    [late] = set(await turns(world, 2)) - {early}
    await api.post(f"/api/v1/turns/{late}/stop")
    left = (await leaver)[-1].body
    assert left["state"] in ("stopped", "finished")
    if left["state"] == "stopped" and not left["text"]:
        assert (await world.bill(late)).bill == "none"  # no model was asked
    assert (await first)[-1].body["text"] == "Prime it."
    assert (await ask(api))[-1].body["text"] == "Prime it."
