"""A key that may read everything changes and deletes nothing, through any door."""

from __future__ import annotations

from apps.tenants import rights
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.abuse.conftest import bearer, send
from tests.abuse.test_12_no_credentials import address
from tests.apps.conversations.conftest import World
from tests.apps.conversations.test_websocket import Socket
from tests.apps.tenants.test_admin_isolation import contents
from tests.architecture.test_scopes import DOORS, ORIGIN_ALONE

READING = {scope for scope in rights.ALL if scope.endswith(":read")}
# They are POSTs and change nothing.
QUESTIONS = {("api/v1/search", "POST")}


async def test_no_address_writes_for_a_reader(world: World) -> None:
    key = await platform_unit(lambda: factories.make_key(tenant=world.tenant, scopes=READING))
    await send("GET", "/api/v1/assistants", bearer(key))  # which writes when the key was used
    before = await platform_unit(contents)
    tried = 0
    for route, door in DOORS.items():
        for method in {*door.answered()} - {"GET"}:
            if door in ORIGIN_ALONE or (route, method) in QUESTIONS or route == "v1/<path:rest>":
                continue
            path = address(route)
            answer = await send(method, path, bearer(key) | {b"content-type": b"application/json"}, b"{}")
            assert answer.status == 403, (route, method)
            tried += 1
    assert tried > 15
    assert await platform_unit(contents) == before


async def test_what_exists_is_not_touched_either(world: World) -> None:
    key = await platform_unit(lambda: factories.make_key(tenant=world.tenant, scopes=READING))
    one = f"/api/v1/conversations/{world.conversation.pk}"
    assert (await send("GET", one, bearer(key))).status == 200
    for method, body in (("DELETE", b""), ("PATCH", b'{"title": "owned"}')):
        headers = bearer(key) | {b"content-type": b"application/json"}
        assert (await send(method, one, headers, body)).status == 403
        # No header makes another method of it.
        assert (await send("POST", one, headers | {b"x-http-method-override": method.encode()}, body)).status == 405
    assert (await send("GET", one, bearer(key))).body.count(b"owned") == 0


async def test_no_frame_asks_or_stops_for_a_reader(world: World) -> None:
    key = await platform_unit(lambda: factories.make_key(tenant=world.tenant, scopes=READING))
    world.script(*["word "] * 300, delay=0.02)
    asker, reader = Socket(Authorization=f"Bearer {world.key}"), Socket(Authorization=f"Bearer {key}")
    for socket in (asker, reader):
        await socket.connect()
        assert (await socket.hear())["type"] == "ready"
    await asker.say(type="ask", conversation=str(world.conversation.pk), text="pump?")
    turn = (await asker.hear())["turn"]
    for frame in (
        {"type": "stop", "turn": turn},
        {"type": "ask", "conversation": str(world.conversation.pk), "text": "pump?"},
        {"type": "ask", "assistant": "guide", "text": "pump?"},
    ):
        await reader.say(**frame)
        assert (await reader.hear())["code"] == "not_permitted"
    assert (await world.turn(turn)).state == "running"
    await reader.say(type="resume", turn=turn)
    assert (await reader.hear())["type"] == "turn.started"
    for socket in (asker, reader):
        await socket.disconnect()
