"""A session's cookie opens a socket for pages of ours alone: a foreign, missing or `null` origin is refused."""

from __future__ import annotations

import pytest

from apps.tenants.scoping import platform_unit
from tests import factories
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
