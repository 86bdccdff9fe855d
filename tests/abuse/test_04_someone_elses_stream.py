"""Resume and stop look at whose the turn is, also while its tokens flow."""

from __future__ import annotations

import uuid

from apps.conversations.models import Turn
from apps.tenants.scoping import platform_unit
from tests.apps.conversations.conftest import Api, World
from tests.apps.conversations.test_websocket import Socket

SECRET = "swordfish"


async def test_a_running_turn_is_its_owners(world: World, api: Api) -> None:
    world.script(*[f"{SECRET} "] * 40, delay=0.05)
    owner = Socket(Authorization=f"Bearer {world.key}")
    await owner.connect()
    await owner.hear()
    await owner.say(type="ask", assistant="guide", user="a", text="pump?")
    turn = (await owner.hear())["turn"]
    stranger = Api(world.outsider_key)
    for number in (turn, uuid.uuid4()):
        for client, query in ((stranger, ""), (api, "?user=b")):
            for method, what in (("GET", ""), ("GET", "/events"), ("POST", "/stop")):
                response = await client.generic(method, f"/api/v1/turns/{number}{what}{query}")
                assert response.status_code == 404
                assert SECRET.encode() not in response.content
    outsider = Socket(Authorization=f"Bearer {world.outsider_key}")
    await outsider.connect()
    await outsider.hear()
    for frame in ("resume", "stop", "regenerate", "continue"):
        await outsider.say(type=frame, turn=turn)
        assert (await outsider.hear())["code"] == "not_found"
    await outsider.disconnect()
    assert await platform_unit(lambda: Turn.objects.get(pk=turn).state) == Turn.State.RUNNING
    await owner.say(type="stop", turn=turn)
    assert (await owner.hear_turn())[-1]["finish_reason"] == "stopped"
    await owner.disconnect()


async def test_a_socket_that_changes_its_key_keeps_no_right_of_the_first(world: World) -> None:
    world.script(*["word "] * 40, delay=0.05)
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    await socket.hear()
    await socket.say(type="ask", assistant="guide", text="pump?")
    turn = (await socket.hear())["turn"]
    await socket.disconnect()
    again = Socket(Authorization=f"Bearer {world.key}")
    await again.connect()
    await again.hear()
    await again.say(type="auth", key=world.outsider_key)
    assert (await again.hear())["tenant"] == "globex"
    await again.say(type="resume", turn=turn)
    assert (await again.hear())["code"] == "not_found"
    await again.disconnect()
