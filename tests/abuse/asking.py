"""The same question by every door, for attacks that must find none of them open."""

from __future__ import annotations

from typing import Any, Final

from apps.conversations.models import Turn
from apps.tenants.models import User
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.apps.access.visiting import SHOP, Page, token_for
from tests.apps.conversations.conftest import Api, World, read_sse
from tests.apps.conversations.test_websocket import Socket, _session_of

CUT_OFF = 512  # words of an answer that can be continued: the assistant's longest
DOORS: Final = (
    *("json", "sse", "edit", "regenerate", "continue", "chat", "chunks"),
    *("socket", "socket regenerate", "socket continue", "playground", "visitor", "visitor socket"),
)


async def first_turn(world: World, api: Api) -> str:
    """Something to edit, to regenerate and to continue."""
    world.script(*["word "] * CUT_OFF, finish_reason="length")
    turn = (await api.ask(world.turns, "pump?")).json()
    assert turn["finish_reason"] == "length", turn
    return str(turn["id"])


async def ask(world: World, door: str, turn: str, **more: Any) -> dict[str, Any]:
    """What the door said last: a turn, an event, a frame or an error. more: fields beside those that it takes."""
    match door:
        case "chat" | "chunks":
            return await _chat(Api(world.key), more | {"stream": door == "chunks"})
        case "visitor":
            return await _visitor(world, more)
        case "socket" | "socket regenerate" | "socket continue" | "visitor socket" | "playground":
            return await _socket_of(world, door, turn, more)
        case _:
            return await _rest(world, Api(world.key), door, turn, more)


async def _visitor(world: World, more: dict[str, Any]) -> dict[str, Any]:
    page = Page(token=await token_for(world))
    conversation = (await page.say("conversations", {"assistant": "guide"})).json()["id"]
    return dict((await page.say(f"conversations/{conversation}/turns", {"text": "pump?", **more})).json())


async def _socket_of(world: World, door: str, turn: str, more: dict[str, Any]) -> dict[str, Any]:
    asking = {"type": "ask", "assistant": "guide", "text": "pump?"}
    if door == "visitor socket":
        return await _socket(asking | more, key=await token_for(world), Origin=SHOP)
    if door == "playground":
        cookie = await platform_unit(lambda: _session_of(_member(world)))
        asking["assistant"] = str(world.assistant.pk)
        return await _socket(asking | more, Cookie=cookie, Host="testserver", Origin="http://testserver")
    if door != "socket":
        asking = {"type": door.removeprefix("socket "), "turn": turn}
    return await _socket(asking | more, Authorization=f"Bearer {world.key}")


def _member(world: World) -> User:
    known = User.objects.filter(email="bob@acme.example").first()
    return known or factories.make_member(tenant=world.tenant, email="bob@acme.example")


async def _rest(world: World, api: Api, door: str, turn: str, more: dict[str, Any]) -> dict[str, Any]:
    url, body = world.turns, {"text": "pump?"}
    if door == "edit":
        body["edits"] = turn
    elif door in {"regenerate", "continue"}:
        url, body = f"/api/v1/turns/{turn}/{door}", {}
    headers = {"Accept": "text/event-stream"} if door == "sse" else {}
    answer = await api.post(url, body | more, content_type="application/json", headers=headers)
    if not answer.streaming:
        return dict(answer.json())
    return [seen.body async for seen in read_sse(answer)][-1]


async def _chat(api: Api, more: dict[str, Any]) -> dict[str, Any]:
    body = {"model": "guide", "messages": [{"role": "user", "content": "pump?"}], **more}
    answer = await api.post("/v1/chat/completions", body, content_type="application/json")
    if answer.streaming:
        return {"text": "".join([part.decode() async for part in answer.streaming_content])}
    said: dict[str, Any] = answer.json()
    return dict(said.get("error", said))


async def _socket(asking: dict[str, Any], key: str = "", **headers: str) -> dict[str, Any]:
    socket = Socket(**headers)
    await socket.connect()
    if key:
        await socket.say(type="auth", key=key)
    await socket.say(**asking)
    heard = await socket.hear()
    while heard["type"] not in {"turn.finished", "error"}:
        heard = await socket.hear()
    await socket.disconnect()
    return heard


async def turns_of(world: World) -> list[Turn]:
    return await platform_unit(lambda: list(Turn.objects.for_tenant(world.tenant).order_by("created")))
