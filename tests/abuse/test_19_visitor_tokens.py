"""A visitor's token fails on another origin, assistant or route, in an address, and after it expires."""

from __future__ import annotations

import json
import logging
import time
import uuid
from typing import Any

import pytest

from apps.access import visitors
from apps.access.visitors import Visit
from apps.conversations.models import Conversation, Turn
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.abuse.conftest import Answer, bearer, send
from tests.abuse.test_01_ids_of_another_tenant import WAYS, filled
from tests.apps.access.visiting import OTHER, SHOP, Page, let_in, token_for
from tests.apps.conversations.conftest import World
from tests.apps.conversations.test_websocket import Socket
from tests.architecture.test_routes import OURS, PUBLIC

# All that a visitor may ask for; the rest of the API, whatever is added to it, answers 403.
OPEN = {
    "api/v1/assistants",
    "api/v1/conversations",
    "api/v1/conversations/<uuid:conversation_id>",
    "api/v1/conversations/<uuid:conversation_id>/messages",
    "api/v1/conversations/<uuid:conversation_id>/turns",
    "api/v1/conversations/<uuid:conversation_id>/attachments",
    "api/v1/conversations/<uuid:conversation_id>/attachments/<uuid:attachment_id>",
    "api/v1/messages/<uuid:message_id>/feedback",
    "api/v1/turns/<uuid:turn_id>",
    "api/v1/turns/<uuid:turn_id>/events",
    "api/v1/turns/<uuid:turn_id>/stop",
    "api/v1/turns/<uuid:turn_id>/regenerate",
    "api/v1/turns/<uuid:turn_id>/continue",
    "api/v1/conversations/<uuid:conversation_id>/share",
    "api/v1/conversations/<uuid:conversation_id>/handoff",
    "api/v1/visitors/renew",
}
NEED_NO_TOKEN = {"api/v1/visitors/<str:tenant>/<str:assistant>", "api/v1/widget/<str:tenant>/<str:assistant>"}


@pytest.fixture
async def visitor(world: World) -> Page:
    return Page(token=await token_for(world, user="zoe"))


async def short_token(world: World, seconds: float) -> str:
    """A token of the last moments of a visit."""
    visit = Visit(
        tenant_id=world.tenant.pk,
        assistant_id=world.assistant.pk,
        origin=SHOP,
        visitor="zoe",
        began=time.time() - visitors.STAY + seconds,
        key_id=(await visitors.visit_of(await token_for(world)) or pytest.fail("no visit"))[0].key_id,
    )
    return (await visitors.mint(visit)).text


async def listened(socket: Socket, token: str) -> dict[str, Any]:
    await socket.connect()
    await socket.say(type="auth", key=token)
    return await socket.hear()


# --- Another origin ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["", "null", OTHER, "http://shop.example", "https://shop.example:443", "https://Shop.example"]
)
async def test_another_origin_is_answered_like_a_made_up_token(world: World, visitor: Page, origin: str) -> None:
    told = []
    for token in (visitor.token, "parleyv_" + "x" * 43, "parleyv_"):
        headers = bearer(token) | ({b"origin": origin.encode()} if origin else {})
        for path in ("/api/v1/conversations", f"/api/v1/turns/{uuid.uuid4()}/events"):
            answer = await send("GET", path, headers | {b"accept": b"*/*"})
            told.append((answer.status, {**json.loads(answer.body), "request_id": ""}))
    assert told == [told[0]] * len(told)
    assert told[0][0] == 401


# --- Another assistant ------------------------------------------------------------------------------------------------


async def test_another_assistant_is_none(world: World, visitor: Page) -> None:
    """Also where the same person talked to it before, by another way."""
    other = await platform_unit(lambda: factories.make_assistant(tenant=world.tenant, slug="internal"))
    for name in ("internal", str(other.pk)):
        refused = await visitor.say("conversations", {"assistant": name})
        unknown = await visitor.say("conversations", {"assistant": str(uuid.uuid4())})
        assert (refused.status_code, refused.json()["fields"]) == (400, unknown.json()["fields"])
    assert [row["slug"] for row in (await visitor.get("/api/v1/assistants")).json()["results"]] == ["guide"]
    elsewhere = Page(token=await token_for(world, user="zoe", assistant="internal"))
    world.script("Hidden.")
    conversation = (await elsewhere.say("conversations", {"assistant": "internal"})).json()["id"]
    turn = (await elsewhere.say(f"conversations/{conversation}/turns", {"text": "pump?"})).json()
    assert (await visitor.get("/api/v1/conversations")).json()["results"] == []
    for path in (f"conversations/{conversation}", f"conversations/{conversation}/messages", f"turns/{turn['id']}"):
        assert (await visitor.get(f"/api/v1/{path}")).status_code == 404, path
    for path in (f"conversations/{conversation}/turns", f"turns/{turn['id']}/stop"):
        assert (await visitor.say(path, {"text": "x"})).status_code == 404, path
    assert (await visitor.say(f"messages/{turn['answer']['id']}/feedback", {"rating": "up"})).status_code == 404
    socket = Socket(Origin=SHOP)
    assert (await listened(socket, visitor.token))["type"] == "ready"
    for frame, code in (
        ({"type": "ask", "assistant": "internal", "text": "x"}, "invalid_request"),
        ({"type": "ask", "conversation": conversation, "text": "x"}, "not_found"),
        ({"type": "resume", "turn": turn["id"]}, "not_found"),
        ({"type": "stop", "turn": turn["id"]}, "not_found"),
    ):
        await socket.say(**frame)
        assert (await socket.hear())["code"] == code, frame
    await socket.disconnect()


async def test_another_visitors_turn_is_none_on_a_socket(world: World, visitor: Page) -> None:
    other = Page(token=await token_for(world, user="yan"))
    conversation = (await other.say("conversations", {"assistant": "guide"})).json()["id"]
    world.script("Hidden.")
    turn = (await other.say(f"conversations/{conversation}/turns", {"text": "pump?"})).json()
    socket = Socket(Origin=SHOP)
    await listened(socket, visitor.token)
    for frame in (
        {"type": "ask", "conversation": conversation, "text": "x", "user": "yan"},
        {"type": "resume", "turn": turn["id"]},
        {"type": "stop", "turn": turn["id"]},
    ):
        await socket.say(**frame)
        assert (await socket.hear())["code"] == "not_found", frame
    await socket.disconnect()


# --- Another route ----------------------------------------------------------------------------------------------------


async def test_every_other_route_refuses_a_visitor(world: World, visitor: Page) -> None:
    unknown = {
        name: str(uuid.uuid4())
        for name in ("collection", "document", "webhook", "assistant", "message", "source", "upload")
    }
    asked = 0
    for route in sorted(set(OURS) - PUBLIC - OPEN - NEED_NO_TOKEN):
        ways = WAYS[route] or [("GET", f"/{route}", ""), ("POST", f"/{route}", "{}")]
        for method, path, body in ways:
            address, _, query = filled(path if path.startswith("/") else f"/api/v1/{path}", unknown).partition("?")
            headers = bearer(visitor.token) | {b"origin": SHOP.encode(), b"content-type": b"application/json"}
            answer = await send(method, address, headers, filled(body, unknown).encode(), query=query.encode())
            assert answer.status in {403, 405}, (route, method, answer)
            asked += answer.status == 403
    assert asked > 15


async def test_no_page_of_the_admin_opens_for_a_visitor(world: World, visitor: Page) -> None:
    for path in ("/admin/", "/admin/conversations/conversation/"):
        answer = await send("GET", path, bearer(visitor.token) | {b"origin": SHOP.encode()})
        assert (answer.status, answer.headers["location"].split("?")[0]) == (302, "/admin/login/")


# --- In an address ----------------------------------------------------------------------------------------------------


async def test_a_token_in_an_address_is_nothing_and_is_not_logged(
    world: World, visitor: Page, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("token", "access_token", "key", "authorization"):
        query = f"{name}={visitor.token}".encode()
        answer: Answer = await send("GET", "/api/v1/conversations", {b"origin": SHOP.encode()}, query=query)
        assert answer.status == 401
        socket = Socket(Origin=SHOP)
        socket.scope["query_string"] = query
        await socket.connect()
        await socket.say(type="ask", assistant="guide", text="x")
        assert (await socket.hear())["code"] == "not_authenticated"
        await socket.disconnect()
    logged = caplog.text + "".join(capfd.readouterr())
    assert "request.finished" in logged
    assert visitor.token.removeprefix("parleyv_")[:20] not in logged


# --- After it expired -------------------------------------------------------------------------------------------------


async def test_an_expired_token_is_a_stranger_everywhere(world: World) -> None:
    page = Page(token=await short_token(world, 3.0))
    assert (await page.get("/api/v1/conversations")).status_code == 200
    socket = Socket(Origin=SHOP)
    assert (await listened(socket, page.token))["type"] == "ready"
    world.script(*["word "] * 100, delay=0.1)
    await socket.say(type="ask", assistant="guide", text="pump?")
    assert (await socket.hear())["type"] == "turn.started"
    frame = await socket.hear()
    while frame["type"] != "error":
        assert frame["type"] != "turn.finished", "ten seconds later"
        frame = await socket.hear()
    assert frame["code"] == "not_authenticated"
    assert (await socket.receive_output())["code"] == 4401
    for response in (await page.get("/api/v1/conversations"), await page.say("visitors/renew")):
        assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    # The turn goes on without its reader.
    assert await platform_unit(lambda: Turn.objects.get().state) == Turn.State.RUNNING


async def test_a_socket_goes_on_with_the_next_token(world: World) -> None:
    """What it follows keeps coming, beyond the end of the first token."""
    socket = Socket(Origin=SHOP)
    await listened(socket, await short_token(world, 3.0))
    words = [f"{n} " for n in range(60)]
    world.script(*words, delay=0.07)
    await socket.say(type="ask", assistant="guide", text="pump?")
    assert (await socket.hear())["type"] == "turn.started"
    await socket.say(type="auth", key=await token_for(world, user="zoe"))
    frames = await socket.hear_turn()
    assert [frame["type"] for frame in frames if frame["type"] in {"ready", "error"}] == ["ready"]
    assert frames[-1]["type"] == "turn.finished"
    assert "".join(frame["text"] for frame in frames if frame["type"] == "token").split() == [w.strip() for w in words]
    await socket.disconnect()


async def test_somebody_elses_token_does_not_go_on_with_what_was_followed(world: World) -> None:
    socket = Socket(Origin=SHOP)
    await listened(socket, await token_for(world, user="zoe"))
    world.script(*["word "] * 40, delay=0.05)
    await socket.say(type="ask", assistant="guide", text="pump?")
    assert (await socket.hear())["type"] == "turn.started"
    await socket.say(type="auth", key=await token_for(world, user="yan"))
    frame = await socket.hear()
    while frame["type"] != "ready":
        frame = await socket.hear()
    assert (await socket.receive_json_from())["type"] == "limits"
    assert await socket.receive_nothing(0.5)
    await socket.disconnect()


# --- What a visitor cannot decide -------------------------------------------------------------------------------------


async def test_what_a_page_claims_to_be_changes_nothing(world: World, visitor: Page) -> None:
    body = {"assistant": "guide", "user": "yan", "tenant": "globex", "end_user": "yan", "id": str(uuid.uuid4())}
    begun = (await visitor.say("conversations", body)).json()
    assert begun["user"] == "zoe"
    assert begun["id"] != body["id"]
    row = await platform_unit(lambda: Conversation.objects.get(pk=begun["id"]))
    assert row.tenant_id == world.tenant.pk


async def test_globex_lets_nobody_in_to_acme(world: World) -> None:
    assert (await let_in(world, key=world.outsider_key)).status_code == 400
