"""Abuse case 36: somebody whom Parley has never met begins with a crowd of questions, through every door at once. The
default plan holds from the first of them on."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from typing import Any

import pytest

from apps.conversations.models import Turn
from apps.tenants.models import EndUser
from apps.tenants.scoping import platform_unit
from apps.usage import limits
from apps.usage.models import Plan, UsageRecord
from apps.usage.reconciling import reconcile
from tests.apps.access.visiting import SHOP, Page, change, let_in
from tests.apps.conversations.conftest import Api, World
from tests.apps.conversations.test_websocket import Socket

CHAT = "/v1/chat/completions"
EACH = 5  # questions through each of the three doors
ROOM = 7


async def default(*limited: dict[str, Any]) -> None:
    def make() -> None:
        plan = Plan.objects.create(name="All", is_default=True)
        for one in limited:
            plan.limits.create(**one)
        limits.forget()

    await platform_unit(make)


async def by_rest(api: Api, person: str) -> str:
    """What became of a question: "answered", or the code of its refusal."""
    made = await api.post("/api/v1/conversations", {"assistant": "guide", "user": person}, "application/json")
    assert made.status_code == 201
    said = (await api.ask(f"/api/v1/conversations/{made.json()['id']}/turns", "pump?")).json()
    return str(said.get("code", "answered"))


async def by_v1(api: Api, person: str) -> str:
    body = {"model": "guide", "user": person, "messages": [{"role": "user", "content": "pump?"}]}
    said = (await api.post(CHAT, body, "application/json")).json()
    return str(said["error"]["code"] if "error" in said else "answered")


async def by_socket(world: World, api: Api, person: str) -> str:
    made = await api.post("/api/v1/conversations", {"assistant": "guide", "user": person}, "application/json")
    return await asked_on_a_socket(world.key, made.json()["id"])


async def asked_on_a_socket(credential: str, conversation: str) -> str:
    socket = Socket()
    await socket.connect()
    await socket.say(type="auth", key=credential)
    assert (await socket.hear())["type"] == "ready"
    await socket.say(type="ask", conversation=conversation, text="pump?")
    last = (await socket.hear_turn())[-1]
    await socket.disconnect()
    return str(last["code"] if last["type"] == "error" else "answered")


async def burst(world: World, api: Api, person: str) -> Counter[str]:
    """All doors at once; no word of them before."""
    assert not await platform_unit(EndUser.objects.filter(external_id=person).exists)
    doors = [door for _ in range(EACH) for door in (by_rest(api, person), by_v1(api, person))]
    return Counter(await asyncio.gather(*doors, *(by_socket(world, api, person) for _ in range(EACH))))


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"metric": "requests", "window": "day", "amount": ROOM}, "quota_exceeded"),
        ({"metric": "requests", "window": "minute", "amount": ROOM}, "rate_limited"),
    ],
)
async def test_no_more_than_the_default_is_answered(world: World, api: Api, limit: dict[str, Any], code: str) -> None:
    await asyncio.gather(by_rest(api, "somebody"), by_v1(api, "somebody"))  # the first of a process take their time
    await default({"level": "user", **limit})
    world.script("Prime", " it.", always=True, delay=0.01)
    for person in ("newcomer", "another one"):  # who has a default of their own
        began = time.monotonic()
        became = await burst(world, api, person)
        answered = became.pop("answered")
        # A minute's are earned back while the burst goes on.
        earned = math.ceil((time.monotonic() - began) * ROOM / 60) if code == "rate_limited" else 0
        assert ROOM <= answered <= ROOM + earned
        assert set(became) == {code}
        assert await platform_unit(UsageRecord.objects.filter(end_user__external_id=person).count) == answered
    assert (await reconcile(world.tenant, repair=False)).differ == []


async def test_no_more_than_the_default_runs_at_the_same_time(world: World, api: Api) -> None:
    await default({"level": "user", "metric": "turns", "window": "once", "amount": 2})
    world.script("Prime", " it.", always=True, delay=0.5)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, await platform_unit(Turn.objects.filter(state__in=Turn.OPEN).count))
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    became = await burst(world, api, "newcomer")
    watching.cancel()
    assert became["rate_limited"] >= 1
    assert set(became) == {"answered", "rate_limited"}
    assert most == 2


async def test_tokens_are_held_back_for_what_a_newcomer_may_use(world: World, api: Api) -> None:
    await default({"level": "user", "metric": "tokens", "window": "month", "amount": 6_000})
    world.script("Prime", " it.", always=True, delay=0.01)
    became = await burst(world, api, "newcomer")
    assert set(became) == {"answered", "quota_exceeded"}
    rows = await platform_unit(lambda: list(UsageRecord.objects.all()))
    assert sum(row.prompt_tokens + row.completion_tokens for row in rows) <= 6_000


async def test_a_new_visitor_has_the_default_from_the_first_burst_on(world: World) -> None:
    await default({"level": "visitor", "metric": "requests", "window": "day", "amount": 3})
    await platform_unit(change, world.assistant, visitor_origins=[SHOP])
    world.script("Prime", " it.", always=True, delay=0.01)
    token = (await let_in(world)).json()["token"]
    page = Page(token=token)

    async def conversation() -> str:
        return str((await page.say("conversations", {"assistant": "guide"})).json()["id"])

    places = [await conversation() for _ in range(8)]

    async def by_page(place: str) -> str:
        said = (await page.say(f"conversations/{place}/turns", {"text": "pump?"})).json()
        return str(said.get("code", "answered"))

    became = Counter(await asyncio.gather(*(by_page(place) for place in places)))
    assert became == {"answered": 3, "quota_exceeded": 5}
