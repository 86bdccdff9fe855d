"""Visitor tokens: who gives them out, what they are good for, how they are renewed, and when they end."""

from __future__ import annotations

import asyncio
import datetime
import json
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from redis import Redis

from apps.access import cors, rates, visitors
from apps.access.authentication import authenticate
from apps.conversations.models import Conversation, Turn
from apps.edge import shared_state
from apps.tenants.models import ApiKey, Tenant
from apps.tenants.scoping import platform_unit
from chatbot.errors import NotAuthenticated, RateLimited
from tests import factories
from tests.apps.access.visiting import OTHER, PAGE, SHOP, Page, change, let_in, token_for
from tests.apps.conversations.conftest import World, fake, read_sse, world
from tests.apps.conversations.test_websocket import Socket

__all__ = ["fake", "world"]


@pytest.fixture(autouse=True)
def _forgetful() -> None:
    visitors.forget()


@pytest.fixture
async def shop(world: World) -> World:
    """acme's guide, whose visitors come from the shop."""
    await platform_unit(change, world.assistant, visitor_origins=[SHOP])
    return world


# --- Who lets visitors in ---------------------------------------------------------------------------------------------


async def test_a_server_lets_its_customer_in(world: World) -> None:
    response = await let_in(world, user="customer-17")
    told = response.json()
    assert (response.status_code, response["Cache-Control"]) == (201, "no-store")
    assert set(told) == {"token", "expires_at", "renew_after"}
    assert told["token"].startswith("parleyv_")
    assert len(told["token"]) >= len("parleyv_") + 43
    left = datetime.datetime.fromisoformat(told["expires_at"]) - timezone.now()
    assert 890 < left.total_seconds() <= 900
    assert 590 < told["renew_after"] <= 600
    page = Page(token=told["token"])
    begun = await page.say("conversations", {"assistant": "guide"})
    assert (begun.status_code, begun.json()["user"]) == (201, "customer-17")


async def test_a_page_of_a_listed_site_lets_a_new_visitor_in(shop: World) -> None:
    names = set()
    for _ in range(2):
        page = Page()
        response = await page.enter()
        assert response.status_code == 201
        assert response["Access-Control-Allow-Origin"] == SHOP
        begun = await page.say("conversations", {"assistant": "guide", "user": "customer-17"})
        names.add(begun.json()["user"])
    assert len(names) == 2
    assert all(name.startswith("visitor:") for name in names)


async def test_a_page_chooses_no_visitor(shop: World) -> None:
    response = await Page().post(PAGE, {"user": "customer-17"}, content_type="application/json")
    page = Page(token=response.json()["token"])
    begun = await page.say("conversations", {"assistant": "guide"})
    assert begun.json()["user"].startswith("visitor:")


@pytest.mark.parametrize("origin", ["", "null", OTHER, "http://shop.example", "https://shop.example:444", f"{SHOP}/"])
async def test_a_page_of_another_site_lets_nobody_in(shop: World, origin: str) -> None:
    response = await Page(origin).post(PAGE)
    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    assert "Access-Control-Allow-Origin" not in response


async def test_what_there_is_not_looks_like_what_lets_nobody_in(shop: World) -> None:
    """Names of tenants and assistants cannot be found out."""
    await platform_unit(change, shop.assistant, visitor_origins=[])
    closed = await Page().post(PAGE)
    told = []
    for path in ("acme/nothing", "nobody/guide", "globex/guide", "acme/%00", "ac%0Ame/guide", "A_me/guide"):
        response = await Page().post(f"/api/v1/visitors/{path}")
        told.append({**response.json(), "request_id": ""})
        assert response.status_code == 401
    assert told == [{**closed.json(), "request_id": ""}] * len(told)


@pytest.mark.parametrize("how", ["switched off", "suspended"])
async def test_nobody_is_let_in_where_nobody_answers(shop: World, how: str) -> None:
    if how == "suspended":
        await platform_unit(Tenant.objects.filter(slug="acme").update, is_active=False)
    else:
        await platform_unit(change, shop.assistant, is_active=False)
    assert (await Page().post(PAGE)).status_code == 401


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"assistant": "nothing"}, "assistant"),
        ({"origin": "shop.example"}, "origin"),
        ({"origin": "null"}, "origin"),
        ({"origin": "http://shop.example"}, "origin"),
        ({"origin": None}, "origin"),
        ({"seconds": 901}, "seconds"),
        ({"seconds": 0}, "seconds"),
        ({"user": "x" * 201}, "user"),
        ({"user": "\0"}, "user"),
    ],
)
async def test_what_a_server_asks_wrongly_is_told(world: World, asked: dict[str, Any], field: str) -> None:
    response = await let_in(world, **asked)
    assert response.status_code == 400
    assert set(response.json()["fields"]) == {field}


async def test_an_assistant_of_another_tenant_is_none(world: World) -> None:
    """By its slug and by its id."""
    for name in ("guide", str(world.assistant.pk)):
        response = await let_in(world, key=world.outsider_key, assistant=name)
        assert (response.status_code, response.json()["fields"]) == (
            400,
            {"assistant": "There is no such assistant."},
        )


async def test_a_key_passes_on_no_more_than_it_has(world: World) -> None:
    reader = await platform_unit(lambda: factories.make_key(tenant=world.tenant, scopes=["chat:read"]))
    assert (await let_in(world, key=reader)).status_code == 403
    writer = await platform_unit(lambda: factories.make_key(tenant=world.tenant, scopes=["chat:write", "usage:read"]))
    caller = await authenticate(await token_for(world, key=writer), origin=SHOP)
    assert caller.scopes == {"chat:write"}


async def test_a_visitor_lets_nobody_in(world: World) -> None:
    page = Page(token=await token_for(world))
    assert (await page.say("visitors", {"assistant": "guide", "origin": OTHER})).status_code == 403


# --- How often --------------------------------------------------------------------------------------------------------


async def test_a_crowd_from_one_address_has_to_wait(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.conversations.visitors_api.PAGES", rates.Rate(burst=3, every=60.0))
    statuses = [(await Page().post(PAGE)).status_code for _ in range(4)]
    assert statuses == [201, 201, 201, 429]
    refused = await Page().post(PAGE)
    assert refused.json()["code"] == "rate_limited"
    assert 55 < refused.json()["retry_after"] <= 60
    assert int(refused["Retry-After"]) >= 55
    assert (await Page(address="203.0.113.8").post(PAGE)).status_code == 201


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("", "", True),
    ],
)
def test_a_household_counts_as_one(one: str, another: str, same: bool) -> None:
    assert (rates.network_of(one) == rates.network_of(another)) is same


async def test_a_burst_is_earned_again(redis: None) -> None:
    rate = rates.Rate(burst=2, every=0.5)
    for _ in range(2):
        await rates.take(rate, "test", "somebody")
    with pytest.raises(RateLimited) as refused:  # noqa: PT012 - on a busy machine one more may be earned meanwhile
        while True:
            await rates.take(rate, "test", "somebody")
    assert refused.value.retry_after
    await asyncio.sleep(refused.value.retry_after)
    await rates.take(rate, "test", "somebody")


# --- What it is good for ----------------------------------------------------------------------------------------------


async def test_a_visitor_talks_by_rest_and_sse(world: World) -> None:
    page = Page(token=await token_for(world, user="zoe"))
    conversation = (await page.say("conversations", {"assistant": "guide"})).json()["id"]
    world.script("Prime it [1].")
    turn = (await page.say(f"conversations/{conversation}/turns", {"text": "pump?"})).json()
    assert turn["text"] == "Prime it [1]."
    assert (await page.get(f"/api/v1/turns/{turn['id']}")).json()["id"] == turn["id"]
    rated = await page.say(f"messages/{turn['answer']['id']}/feedback", {"rating": "up", "user": "mallory"})
    assert rated.json()["user"] == "zoe"
    assert len((await page.get(f"/api/v1/conversations/{conversation}/messages")).json()["results"]) == 2
    world.script("Again.")
    path = f"conversations/{conversation}/turns"
    stream = await page.say(path, {"text": "And then?"}, Accept="text/event-stream")
    assert stream["Access-Control-Allow-Origin"] == SHOP
    assert [event.type async for event in read_sse(stream)][-1] == "turn.finished"


async def test_a_visitor_meets_their_own_conversations_alone(world: World) -> None:
    """Whatever `user` a page names."""
    mine, theirs = [Page(token=await token_for(world, user=name)) for name in ("zoe", "yan")]
    conversation = (await theirs.say("conversations", {"assistant": "guide"})).json()["id"]
    world.script("Hidden.")
    turn = (await theirs.say(f"conversations/{conversation}/turns", {"text": "secret?"})).json()
    for path in (
        f"conversations/{conversation}",
        f"conversations/{conversation}/messages",
        f"turns/{turn['id']}",
        f"turns/{turn['id']}/events",
    ):
        for query in ("", "?user=yan", "?user=zoe"):
            assert (await mine.get(f"/api/v1/{path}{query}")).status_code == 404, path
    for path in (f"conversations/{conversation}/turns", f"turns/{turn['id']}/stop"):
        assert (await mine.say(path, {"text": "x", "user": "yan"})).status_code == 404
    assert (await mine.say(f"messages/{turn['answer']['id']}/feedback", {"rating": "up"})).status_code == 404
    assert (await mine.delete(f"/api/v1/conversations/{conversation}")).status_code == 404
    assert (await mine.get("/api/v1/conversations?user=yan")).json()["results"] == []
    assert len((await theirs.get("/api/v1/conversations?user=zoe")).json()["results"]) == 1


async def test_what_a_visitor_asks_is_billed_to_the_key(world: World) -> None:
    page = Page(token=await token_for(world, user="zoe"))
    conversation = (await page.say("conversations", {"assistant": "guide"})).json()["id"]
    world.script("Prime it.")
    turn = (await page.say(f"conversations/{conversation}/turns", {"text": "pump?"})).json()
    bill = await world.bill(turn["id"])
    key = await platform_unit(lambda: ApiKey.objects.for_tenant(world.tenant).get())
    assert bill.api_key_id == key.pk


async def test_a_socket_is_opened_by_its_first_frame(world: World) -> None:
    socket = Socket(Origin=SHOP)
    await socket.connect()
    await socket.say(type="auth", key=await token_for(world, user="zoe"))
    assert (await socket.hear())["type"] == "ready"
    world.script("Prime it.")
    await socket.say(type="ask", assistant="guide", text="pump?", user="mallory")
    frames = await socket.hear_turn()
    assert frames[-1]["text"] == "Prime it."
    turn = await platform_unit(lambda: Turn.objects.select_related("end_user").get(pk=frames[0]["turn"]))
    assert turn.end_user.external_id == "zoe"
    await socket.disconnect()


# --- Browsers ---------------------------------------------------------------------------------------------------------


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


async def test_a_browser_is_told_what_a_page_may_send(world: World) -> None:
    await token_for(world)
    for path in ("conversations", f"conversations/{world.conversation.pk}/turns", "visitors/renew"):
        response = await Page().options(f"/api/v1/{path}", headers=PREFLIGHT)
        assert response.status_code == 204
        assert response["Access-Control-Allow-Origin"] == SHOP
        assert "Authorization" in response["Access-Control-Allow-Headers"]
        assert "POST" in response["Access-Control-Allow-Methods"]
        assert "Origin" in response["Vary"]
        assert "Access-Control-Allow-Credentials" not in response


@pytest.mark.parametrize("origin", ["null", OTHER, "https://shop.example.evil.example", "https://shop.example:444"])
async def test_pages_without_visitors_are_told_nothing(world: World, origin: str) -> None:
    page = Page(origin, token=await token_for(world))
    for response in (
        await page.options("/api/v1/conversations", headers=PREFLIGHT),
        await page.get("/api/v1/conversations"),
    ):
        assert response.status_code == 401
        assert "Access-Control-Allow-Origin" not in response
        assert "Origin" in response["Vary"]


async def test_the_first_page_of_a_site_is_told_so_too(shop: World) -> None:
    assert (await Page().options(PAGE, headers=PREFLIGHT))["Access-Control-Allow-Origin"] == SHOP
    refused = await Page(OTHER).options(PAGE, headers=PREFLIGHT)
    assert "Access-Control-Allow-Origin" not in refused


async def test_the_answer_to_a_key_is_for_no_page(world: World) -> None:
    await token_for(world)
    response = await Page(token=world.key).get("/api/v1/conversations")
    assert response.status_code == 200
    assert "Access-Control-Allow-Origin" not in response


async def test_a_page_can_read_that_its_token_has_ended(world: World) -> None:
    await token_for(world)
    response = await Page(token="parleyv_" + "x" * 43).get("/api/v1/conversations")
    assert (response.status_code, response["Access-Control-Allow-Origin"]) == (401, SHOP)


# --- Renewal ----------------------------------------------------------------------------------------------------------


async def test_a_visit_goes_on_with_the_next_token(shop: World) -> None:
    page = Page()
    await page.enter()
    conversation = (await page.say("conversations", {"assistant": "guide"})).json()["id"]
    first = page.token
    renewed = await page.say("visitors/renew")
    assert renewed.status_code == 201
    page.token = renewed.json()["token"]
    assert page.token != first
    assert (await page.get(f"/api/v1/conversations/{conversation}")).status_code == 200
    # What was sent before the answer came bears the old one.
    assert (await Page(token=first).get(f"/api/v1/conversations/{conversation}")).status_code == 200


async def test_renewing_needs_a_live_token_and_its_origin(world: World) -> None:
    token = await token_for(world)
    assert (await Page(OTHER, token).say("visitors/renew")).status_code == 401
    assert (await Page("", token).say("visitors/renew")).status_code == 401
    assert (await Page(token="parleyv_" + "x" * 43).say("visitors/renew")).status_code == 401
    assert (await Page(token=world.key).say("visitors/renew")).status_code == 403


async def test_a_visit_ends_after_a_day(world: World) -> None:
    visit, _ = await visitors.visit_of(await token_for(world)) or pytest.fail("no visit")
    late = replace(visit, began=visit.began - visitors.STAY + 100)
    token = await visitors.mint(late)
    assert 90 < (token.expires_at - timezone.now()).total_seconds() <= 100
    with pytest.raises(NotAuthenticated):
        await visitors.mint(replace(visit, began=visit.began - visitors.STAY))


async def test_nobody_fills_redis_by_renewing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.conversations.visitors_api.RENEWALS", rates.Rate(burst=2, every=60.0))
    page = Page(token=await token_for(world))
    assert [(await page.say("visitors/renew")).status_code for _ in range(3)] == [201, 201, 429]


# --- The end ----------------------------------------------------------------------------------------------------------


async def ended(token: str) -> bool:
    visitors.forget()  # as two seconds do
    return (await Page(token=token).get("/api/v1/conversations")).status_code == 401


@pytest.mark.parametrize("how", ["revoked", "expired", "suspended", "narrowed", "deleted"])
async def test_what_a_key_let_in_ends_with_it(world: World, how: str) -> None:
    token = await token_for(world)
    assert not await ended(token)
    keys = ApiKey.objects.for_tenant(world.tenant)
    deeds: dict[str, Any] = {
        "revoked": lambda: keys.update(revoked_at=timezone.now()),
        "expired": lambda: keys.update(expires_at=timezone.now()),
        "suspended": lambda: Tenant.objects.filter(pk=world.tenant.pk).update(is_active=False),
        "narrowed": lambda: keys.update(assistant_ids=[world.tenant.pk]),
        "deleted": lambda: Conversation.objects.all().delete() and world.assistant.delete(),
    }
    await platform_unit(deeds[how])
    assert await ended(token)


async def test_a_page_that_is_listed_no_more_has_no_visitors(shop: World) -> None:
    page = Page()
    await page.enter()
    assert not await ended(page.token)
    await platform_unit(change, shop.assistant, visitor_origins=[OTHER])
    assert await ended(page.token)
    assert (await page.say("visitors/renew")).status_code == 401


# --- Redis ------------------------------------------------------------------------------------------------------------


async def test_redis_holds_no_token_and_forgets_in_time(world: World) -> None:
    token = await token_for(world, user="zoe", seconds=60)
    with Redis.from_url(settings.REDIS_URL, decode_responses=True) as client:
        kept = {name: client.get(name) for name in client.scan_iter("visitor:*")}
        lives = [client.pttl(name) for name in client.scan_iter("*")]
    assert token.removeprefix("parleyv_") not in str(kept)
    ((name, stored),) = kept.items()
    assert len(name) == len("visitor:") + 64
    assert json.loads(str(stored))["visitor"] == "zoe"
    assert all(0 < life <= visitors.ORIGIN_KNOWN * 1000 for life in lives)


async def test_without_redis_nobody_is_called_a_stranger(shop: World, settings: Any) -> None:
    page = Page()
    await page.enter()
    await page.get("/api/v1/conversations")
    settings.REDIS_URL = "redis://127.0.0.1:9"
    _, holder = shared_state._clients[asyncio.get_running_loop()]
    await holder.aclose()  # this process's connections
    for response in (
        await page.get("/api/v1/conversations"),
        await page.say("visitors/renew"),
        await Page().enter(),
    ):
        assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    answer = await page.get("/api/v1/conversations")
    assert answer["Access-Control-Allow-Origin"] == SHOP


async def test_a_page_may_read_that_it_asked_too_often(shop: World, settings: Any) -> None:
    page = Page()
    await page.enter()
    settings.PARLEY_CREDENTIAL_REQUESTS_A_MINUTE = settings.PARLEY_CREDENTIAL_BURST = 1
    await page.get("/api/v1/conversations")
    refused = await page.get("/api/v1/conversations")
    assert (refused.status_code, refused.json()["limit"]["name"]) == (429, "credential")
    assert refused["Access-Control-Allow-Origin"] == SHOP
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(cors.EXPOSED.split(", "))


def test_the_headers_that_pages_may_send_are_those_that_the_api_reads() -> None:
    allowed = cors.PREFLIGHT["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"} <= set(allowed)
