"""A key opens the same through Bearer, x-api-key and a socket, and where one refuses it, all of them do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone

from apps.tenants.models import ApiKey, Tenant
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.abuse.conftest import send
from tests.apps.conversations.conftest import Api, World
from tests.apps.conversations.test_websocket import Socket
from tests.browser.conftest import session_of

READ, DOOR = "/api/v1/conversations", "/api/v1/turns/00000000-0000-0000-0000-000000000000"
CHAT = "/v1/chat/completions"


async def opened(key: str) -> dict[str, bool]:
    """Which ways in accept the key."""
    found = {}
    for name, value in (("authorization", f"Bearer {key}"), ("x-api-key", key)):
        for path in (READ, DOOR):
            answer = await send("GET", path, {name.encode(): value.encode()})
            assert answer.status in {200, 404, 401}
            found[f"{name} {path}"] = answer.status != 401
    for name, value in (("Authorization", f"Bearer {key}"), ("X-Api-Key", key)):
        socket = Socket(**{name: value})
        await socket.connect()
        found[f"socket {name}"] = (await socket.hear())["type"] == "ready"
        await socket.disconnect()
    socket = Socket()
    await socket.connect()
    await socket.say(type="auth", key=key)
    found["socket frame"] = (await socket.hear())["type"] == "ready"
    await socket.disconnect()
    return found


async def test_a_good_key_opens_every_door(world: World) -> None:
    assert set((await opened(world.key)).values()) == {True}


def revoked(world: World) -> None:
    ApiKey.objects.for_tenant(world.tenant).update(revoked_at=timezone.now())


def expired(world: World) -> None:
    ApiKey.objects.for_tenant(world.tenant).update(expires_at=timezone.now())


def suspended(world: World) -> None:
    Tenant.objects.filter(pk=world.tenant.pk).update(is_active=False)


@pytest.mark.parametrize("end", [revoked, expired, suspended])
async def test_an_ended_key_opens_none(world: World, end: Callable[[World], None]) -> None:
    await platform_unit(end, world)
    assert set((await opened(world.key)).values()) == {False}


async def test_parts_of_two_keys_open_none(world: World) -> None:
    _, key_id, secret = world.key.split("_")
    _, other_id, other_secret = world.outsider_key.split("_")
    for key in (f"parley_{key_id}_{other_secret}", f"parley_{other_id}_{secret}", world.key[:-1], world.key.lower()):
        assert set((await opened(key)).values()) == {False}


async def test_the_authorization_header_goes_first(world: World) -> None:
    """A second, better credential does not repair a bad one."""
    headers = [(b"authorization", b"Bearer nonsense"), (b"x-api-key", world.key.encode())]
    assert (await send("GET", READ, headers)).status == 401


async def test_a_session_is_no_credential_of_the_api(world: World) -> None:
    """Or a foreign page could use a member's cookies."""
    session = await platform_unit(lambda: session_of(factories.make_member(tenant=world.tenant)))
    for path in (READ, DOOR):
        assert (await send("GET", path, {b"cookie": f"sessionid={session}".encode()})).status == 401


async def deeds(world: World, key: str) -> dict[str, tuple[bool, bool]]:
    """Through each way in: whether the key may read a turn, and ask."""
    found = {}
    for name, value in (("authorization", f"Bearer {key}"), ("x-api-key", key)):
        headers = {name.encode(): value.encode(), b"content-type": b"application/json"}
        for way, read, write in (("rest", READ, READ), ("door", DOOR, f"{DOOR}/stop"), ("v1", "/v1/models", CHAT)):
            answers = [await send("GET", read, headers), await send("POST", write, headers, b"{}")]
            found[f"{way} {name}"] = (answers[0].status != 403, answers[1].status != 403)
        socket = Socket(**{name.title(): value})
        await socket.connect()
        assert (await socket.hear())["type"] == "ready"
        found[f"socket {name}"] = await frames(socket)
    socket = Socket()
    await socket.connect()
    await socket.say(type="auth", key=key)
    assert (await socket.hear())["type"] == "ready"
    found["socket frame"] = await frames(socket)
    return found


async def frames(socket: Socket) -> tuple[bool, bool]:
    nothing, permitted = DOOR.rpartition("/")[2], []
    for frame in ({"type": "resume", "turn": nothing}, {"type": "ask", "text": "?", "conversation": nothing}):
        await socket.say(**frame)
        permitted.append((await socket.hear())["code"] != "not_permitted")
    await socket.disconnect()
    return permitted[0], permitted[1]


@pytest.mark.parametrize(
    ("scopes", "may"),
    [
        (["chat:read", "chat:write"], (True, True)),
        (["chat:read", "knowledge:write", "usage:read"], (True, False)),
        (["chat:write"], (False, True)),
        (["admin:*", "knowledge:read"], (False, False)),
    ],
)
async def test_scopes_hold_alike_through_every_door(world: World, scopes: list[str], may: tuple[bool, bool]) -> None:
    key = await platform_unit(lambda: factories.make_key(tenant=world.tenant, scopes=scopes))
    assert set((await deeds(world, key)).values()) == {may}


@pytest.mark.parametrize(
    ("role", "may"),
    [("owner", (True, True)), ("editor", (True, True)), ("analyst", (True, False)), ("support", (False, False))],
)
async def test_a_session_may_what_its_role_permits(world: World, role: str, may: tuple[bool, bool]) -> None:
    session = await platform_unit(lambda: session_of(factories.make_member(tenant=world.tenant, role=role)))
    where = {"Host": "testserver", "Origin": "http://testserver", "Cookie": f"sessionid={session}"}
    turn = (await Api(world.key).ask(world.turns, "pump?")).json()["id"]
    permitted = []
    for frame in (
        {"type": "resume", "turn": turn},
        {"type": "ask", "text": "?", "conversation": str(world.conversation.pk)},
    ):
        socket = Socket(**where)
        await socket.connect()
        await socket.say(**frame)
        answer = await socket.hear()
        # A turn of somebody else's is not theirs to see, whatever their role.
        assert answer["code"] in {"not_permitted", "not_found"}
        permitted.append(answer["code"] != "not_permitted")
        await socket.disconnect()
    assert (permitted[0], permitted[1]) == may
