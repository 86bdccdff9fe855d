"""Suspending, demoting or revoking ends every credential, stream and open socket within five seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone

from apps.access import authentication, revocation
from apps.tenants import audit, taking_back
from apps.tenants.models import ApiKey, Membership, Tenant, User
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.apps.conversations.conftest import Api, World, read_sse
from tests.apps.conversations.test_websocket import PATIENCE, Socket
from tests.browser.conftest import session_of

WITHIN = 5.0
# The turn's own end may be told before the reader's.
REFUSED = {"not_authenticated", "not_permitted"}


def test_the_parts_of_the_delay_are_within_the_promise() -> None:
    assert authentication.CACHE_SECONDS + revocation.RECHECK_SECONDS < WITHIN


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, sooner."""
    monkeypatch.setattr(authentication, "CACHE_SECONDS", 0.1)
    monkeypatch.setattr(revocation, "RECHECK_SECONDS", 0.1)


def revoke_key(world: World) -> None:
    taking_back.revoke_key(ApiKey.objects.for_tenant(world.tenant).get(), audit.SYSTEM)


def let_key_expire(world: World) -> None:
    ApiKey.objects.for_tenant(world.tenant).update(expires_at=timezone.now())


def suspend_tenant(world: World) -> None:
    taking_back.suspend_tenant(world.tenant, audit.SYSTEM)


def delete_key(world: World) -> None:
    ApiKey.objects.for_tenant(world.tenant).all().delete()


KEY_ENDS = [revoke_key, let_key_expire, suspend_tenant, delete_key]


@pytest.mark.parametrize("end", KEY_ENDS)
async def test_a_stream_ends_with_its_key(world: World, api: Api, end: Callable[[World], None]) -> None:
    world.script(*["word "] * 500, delay=0.02)
    response = await api.ask(world.turns, "Tell me everything", Accept="text/event-stream")
    seen = []
    async for event in read_sse(response):
        seen.append(event)
        if len(seen) == 5:
            await platform_unit(end, world)
    assert seen[-1].type == "error"  # and no end of the answer, which would take ten seconds
    assert seen[-1].body["code"] in REFUSED
    async with asyncio.timeout(PATIENCE):
        while (await api.get(f"/api/v1/turns/{seen[0].body['turn']}")).status_code != 401:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("end", KEY_ENDS)
async def test_a_socket_ends_with_its_key(world: World, end: Callable[[World], None]) -> None:
    world.script(*["word "] * 500, delay=0.02)
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    await socket.hear()
    await socket.say(type="ask", assistant="guide", text="Tell me everything")
    await socket.hear()
    await platform_unit(end, world)
    assert await closed(socket) == (4403 if end is suspend_tenant else 4401)


async def test_an_idle_socket_ends_with_its_key(world: World) -> None:
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    await socket.hear()
    await platform_unit(revoke_key, world)
    assert await closed(socket) == 4401


def log_out(user: User) -> None:
    Session.objects.all().delete()


def deactivate(user: User) -> None:
    taking_back.deactivate_user(user, audit.SYSTEM)


def sign_out(user: User) -> None:
    taking_back.sign_out_everywhere(user, audit.SYSTEM)


def change_password(user: User) -> None:
    user.set_password("another battery staple")
    user.save()


def dismiss(user: User) -> None:
    factories.make_member(tenant=Tenant.objects.get(memberships__user=user), role=Membership.Role.OWNER)
    taking_back.remove_member(Membership.objects.get(user=user), audit.SYSTEM)


def demote(user: User) -> None:
    taking_back.change_role(Membership.objects.get(user=user), Membership.Role.SUPPORT, audit.SYSTEM)


def suspend(user: User) -> None:
    taking_back.suspend_tenant(Tenant.objects.get(memberships__user=user), audit.SYSTEM)


@pytest.mark.parametrize("end", [log_out, deactivate, sign_out, change_password, dismiss, demote, suspend])
async def test_a_socket_ends_with_its_session(world: World, end: Callable[[User], None]) -> None:
    world.script(*["word "] * 500, delay=0.02)
    bob = await platform_unit(lambda: factories.make_member(tenant=world.tenant))
    session = await platform_unit(session_of, bob)
    socket = Socket(Cookie=f"sessionid={session}", Origin="http://testserver", Host="testserver")
    await socket.connect()
    await socket.say(type="ask", assistant=str(world.assistant.pk), text="Tell me everything")
    assert (await socket.hear())["type"] == "turn.started"
    await platform_unit(end, bob)
    assert await closed(socket) == (4403 if end is suspend else 4401)


async def test_demotion_ends_what_owners_may(world: World) -> None:
    """The admin asks the database at every request; nothing is remembered in the session."""
    alice = await platform_unit(lambda: factories.make_member(tenant=world.tenant, role=Membership.Role.OWNER))
    session = await platform_unit(session_of, alice)
    client = Api()
    client.cookies["sessionid"] = session
    assert (await client.get("/admin/webhooks/webhook/")).status_code == 200
    await platform_unit(lambda: Membership.objects.filter(user=alice).update(role=Membership.Role.EDITOR))
    assert (await client.get("/admin/webhooks/webhook/")).status_code == 403


async def closed(socket: Socket) -> int:
    """The code that the socket is closed with, and nothing of the turn after the error frame."""
    refused = False
    async with asyncio.timeout(PATIENCE):
        while True:
            message: dict[str, Any] = await socket.receive_output()
            if message["type"] == "websocket.close":
                assert refused
                return int(message["code"])
            frame = orjson.loads(message["text"])
            assert not refused, f"a frame came after the refusal: {frame}"
            # A frame without a turn is about the socket.
            refused = frame.get("code") in REFUSED and "turn" not in frame
