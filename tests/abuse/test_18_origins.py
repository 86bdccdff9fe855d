"""A session's cookie opens a socket for pages of ours alone, a visitor's token for pages of its own origin alone: a
foreign, missing or `null` one is refused."""

from __future__ import annotations

import pytest

from apps.tenants.scoping import platform_unit
from tests import factories
from tests.apps.access.visiting import SHOP, token_for
from tests.apps.conversations.conftest import World
from tests.apps.conversations.test_websocket import Socket
from tests.browser.conftest import session_of

REFUSED = [
    "",
    "null",
    "file://",
    "http://evil.example",
    "http://testserver.evil.example",
    "http://testserver@evil.example",
    "http://evil.example#testserver",
    "http://evil.example/testserver",
    "http://testserver:81",
    "http://[",
    "testserver",
    "//evil.example",
]


@pytest.fixture
async def session(world: World) -> str:
    return await platform_unit(lambda: session_of(factories.make_member(tenant=world.tenant)))


async def ask(world: World, **headers: str) -> str:
    socket = Socket(**headers)
    await socket.connect()
    await socket.say(type="ask", assistant=str(world.assistant.pk), text="pump?")
    frame = await socket.hear()
    await socket.disconnect()
    return str(frame.get("code") or frame["type"])


async def test_a_page_of_ours_may_ask(world: World, session: str) -> None:
    cookie = f"sessionid={session}"
    assert await ask(world, Cookie=cookie, Host="testserver", Origin="http://testserver") == "turn.started"


@pytest.mark.parametrize("origin", REFUSED)
async def test_other_pages_may_not(world: World, session: str, origin: str) -> None:
    cookie = f"sessionid={session}"
    assert await ask(world, Cookie=cookie, Host="testserver", Origin=origin) == "not_authenticated"


async def test_a_missing_origin_is_refused(world: World, session: str) -> None:
    assert await ask(world, Cookie=f"sessionid={session}", Host="testserver") == "not_authenticated"


async def test_a_host_that_is_not_ours_makes_no_origin_ours(world: World, session: str) -> None:
    """DNS rebinding: the page and the address agree, and are both the attacker's."""
    headers = {"Cookie": f"sessionid={session}", "Host": "evil.example", "Origin": "http://evil.example"}
    assert await ask(world, **headers) == "not_authenticated"


async def test_a_key_needs_no_origin(world: World) -> None:
    socket = Socket(Authorization=f"Bearer {world.key}", Origin="http://evil.example")
    await socket.connect()
    assert (await socket.hear())["type"] == "ready"
    await socket.disconnect()


# --- Visitors: their token is good for pages of one origin ------------------------------------------------------------

SHOP_REFUSED = [
    *REFUSED,
    "http://testserver",
    "https://shop.example:444",
    "http://shop.example",
    "https://shop.example/",
    "https://SHOP.example",
    "https://shop.example.evil.example",
]


async def enter(token: str, **headers: str) -> tuple[str, int]:
    """What a socket is told that gives this token, and what it is closed with."""
    socket = Socket(**headers)
    await socket.connect()
    await socket.say(type="auth", key=token)
    told = await socket.hear()
    code = 0 if told["type"] == "ready" else (await socket.receive_output())["code"]
    await socket.disconnect()
    return told.get("code", told["type"]), code


async def test_the_page_that_a_visitor_was_let_in_on_may_open_a_socket(world: World) -> None:
    assert await enter(await token_for(world), Host="testserver", Origin=SHOP) == ("ready", 0)


@pytest.mark.parametrize("origin", SHOP_REFUSED)
async def test_other_pages_may_not_open_a_visitors_socket(world: World, origin: str) -> None:
    token = await token_for(world)
    assert await enter(token, Host="testserver", Origin=origin) == ("not_authenticated", 4401)


async def test_a_visitors_socket_without_an_origin_is_refused(world: World) -> None:
    token = await token_for(world)
    assert await enter(token, Host="testserver") == ("not_authenticated", 4401)
    socket = Socket(Authorization=f"Bearer {token}", Host="testserver")
    await socket.connect()
    assert (await socket.hear())["code"] == "not_authenticated"
    assert (await socket.receive_output())["code"] == 4401


async def test_a_session_opens_nothing_for_the_page_of_a_visitor(world: World, session: str) -> None:
    await token_for(world)
    assert await ask(world, Cookie=f"sessionid={session}", Host="testserver", Origin=SHOP) == "not_authenticated"
