"""The WebSocket door: the same turns, other frames."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

from apps.conversations.models import Conversation, Message
from apps.tenants import audit, keys, taking_back
from apps.tenants.models import ApiKey, User
from apps.tenants.scoping import platform_unit
from config.asgi import application
from tests import factories
from tests.apps.conversations.conftest import Api, World, read_sse
from tests.fakes.inference import Reply

PATIENCE = 30.0  # seconds


class Socket(WebsocketCommunicator):
    """A client's end of /ws/chat."""

    def __init__(self, **headers: str) -> None:
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        super().__init__(application, "/ws/chat", headers=raw)

    async def say(self, **frame: Any) -> None:
        await self.send_to(text_data=json.dumps(frame))

    async def receive_output(self, timeout: float = 0) -> Any:  # noqa: ARG002 - as theirs
        """All that is received comes by this, and is waited for as long as a busy machine needs."""
        return await super().receive_output(PATIENCE)

    async def wait(self, timeout: float = 0) -> None:  # noqa: ARG002
        await super().wait(PATIENCE)

    async def hear(self) -> dict[str, Any]:
        """The next frame; where it stands with its limits a socket tells beside all else."""
        frame: dict[str, Any] = {"type": "limits"}
        while frame["type"] == "limits":
            frame = json.loads(await self.receive_from())
        return frame

    async def hear_turn(self) -> list[dict[str, Any]]:
        """Frames up to the one that ends a turn."""
        frames = [await self.hear()]
        while frames[-1]["type"] not in {"turn.finished", "error"}:
            frames.append(await self.hear())
        return frames


@pytest.fixture
async def socket(world: World) -> AsyncIterator[Socket]:
    connected = Socket(Authorization=f"Bearer {world.key}")
    await connected.connect()
    assert await connected.hear() == {"type": "ready", "tenant": "acme"}
    yield connected
    await connected.disconnect()


async def test_ask_streams_the_turn(world: World, socket: Socket) -> None:
    world.script("Prime ", "it [1].")
    await socket.say(type="ask", conversation=str(world.conversation.pk), text="pump?", client_id="q1")
    frames = await socket.hear_turn()
    kinds = [frame["type"] for frame in frames]
    assert kinds[:2] == ["turn.started", "sources"]
    assert kinds[-1] == "turn.finished"
    assert frames[-1]["text"] == "Prime it [1]."
    assert {frame["client_id"] for frame in frames} == {"q1"}
    assert len({frame["turn"] for frame in frames}) == 1
    assert [frame["id"] for frame in frames] == [f"1-{n}" for n in range(1, len(frames) + 1)]


async def test_the_same_events_as_sse(world: World, socket: Socket, api: Api) -> None:
    await socket.say(type="ask", conversation=str(world.conversation.pk), text="pump?")
    frames = await socket.hear_turn()
    response = await api.get(f"/api/v1/turns/{frames[0]['turn']}/events")
    seen = [{"type": event.type, "id": event.cursor, **event.body} async for event in read_sse(response)]
    assert [{**frame, "turn": frames[0]["turn"]} for frame in seen] == frames


async def test_asking_an_assistant_begins_a_conversation(world: World, socket: Socket) -> None:
    await socket.say(type="ask", assistant="guide", user="zoe", text="pump?")
    first = (await socket.hear_turn())[0]
    await socket.say(type="ask", conversation=first["conversation"], user="zoe", text="and then?")
    assert (await socket.hear_turn())[-1]["type"] == "turn.finished"


async def test_stop_is_heard_while_tokens_flow(world: World, socket: Socket) -> None:
    world.script(*("word " for _ in range(300)), delay=0.02)
    await socket.say(type="ask", conversation=str(world.conversation.pk), text="pump?")
    frame = await socket.hear()
    while frame["type"] != "token":
        frame = await socket.hear()
    await socket.say(type="stop", turn=frame["turn"])
    frames = await socket.hear_turn()
    assert frames[-1]["finish_reason"] == "stopped"
    await world.fake.wait_disconnected()


async def test_a_lost_socket_resumes_without_gap_or_repeat(world: World, socket: Socket) -> None:
    world.script(*(f"w{n} " for n in range(40)), delay=0.01)
    await socket.say(type="ask", conversation=str(world.conversation.pk), text="pump?")
    before = [await socket.hear() for _ in range(6)]
    await socket.disconnect()
    again = Socket(Authorization=f"Bearer {world.key}")
    await again.connect()
    await again.hear()
    await again.say(type="resume", turn=before[0]["turn"], after=before[-1]["id"])
    after = await again.hear_turn()
    said = "".join(frame["text"] for frame in before + after if frame["type"] == "token")
    assert said == after[-1]["text"] == "".join(f"w{n} " for n in range(40))
    await again.disconnect()


@pytest.mark.parametrize(
    "frame",
    ["{", "[]", '"x"', "null", '{"type": "nonsense"}', "{}", '{"type": "ask", "conversation": 7, "text": "x"}',
     '{"type": "ask", "text": "x"}', '{"type": "ask", "assistant": "nobody", "text": "x"}',
     '{"type": "resume", "turn": "x"}', '{"type": "stop"}', '{"type": "ask", "assistant": "guide", "text": ""}',
     '{"type": "ask", "assistant": ["guide"], "text": "x"}', '{"type": ["ask"]}'],
)  # fmt: skip
async def test_a_bad_frame_is_told_and_the_socket_stays(world: World, socket: Socket, frame: str) -> None:
    await socket.send_to(text_data=frame)
    error = await socket.hear()
    assert (error["type"], error["code"]) == ("error", "invalid_request")
    assert error["request_id"]
    await socket.say(type="ask", assistant="guide", text="still there?")
    assert (await socket.hear_turn())[-1]["type"] == "turn.finished"


async def test_binary_frames_are_refused_politely(world: World, socket: Socket) -> None:
    await socket.send_to(bytes_data=b"\x00\x01")
    assert (await socket.hear())["code"] == "invalid_request"


async def test_unknown_and_foreign_turns_are_not_found_alike(world: World, api: Api) -> None:
    turn = (await api.ask(world.turns, "pump?")).json()["id"]
    outsider = Socket(Authorization=f"Bearer {world.outsider_key}")
    await outsider.connect()
    await outsider.hear()
    answers = []
    for some_id in (turn, "00000000-0000-4000-8000-000000000000"):
        for kind in ("stop", "resume"):
            await outsider.say(type=kind, turn=some_id)
            answers.append({**(await outsider.hear()), "request_id": ""})
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["code"] == "not_found"
    await outsider.disconnect()


@pytest.mark.parametrize("key", ["", "nonsense", "parley_aaaaaaaaaaaa_" + "b" * 49])
async def test_a_bad_key_is_told_and_closes_with_4401(world: World, key: str) -> None:
    socket = Socket()
    await socket.connect()
    await socket.say(type="auth", key=key)
    assert (await socket.hear())["code"] == "not_authenticated"
    assert (await socket.receive_output()) == {"type": "websocket.close", "code": 4401}


async def test_auth_by_frame(world: World) -> None:
    socket = Socket()
    await socket.connect()
    await socket.say(type="auth", key=world.key)
    assert await socket.hear() == {"type": "ready", "tenant": "acme"}
    await socket.disconnect()


async def test_asking_before_authenticating_is_refused(world: World) -> None:
    socket = Socket()
    await socket.connect()
    await socket.say(type="ask", assistant="guide", text="x")
    assert (await socket.hear())["code"] == "not_authenticated"
    assert await platform_unit(Message.objects.count) == 0


async def test_a_revoked_key_ends_at_the_next_frame(world: World, socket: Socket, monkeypatch: Any) -> None:
    monkeypatch.setattr("apps.access.authentication._known", {})
    parts = keys.parse(world.key)
    assert parts is not None
    await platform_unit(lambda: taking_back.revoke_key(ApiKey.objects.get(key_id=parts.key_id), audit.SYSTEM))
    await socket.say(type="ask", assistant="guide", text="x")
    assert (await socket.hear())["code"] == "not_authenticated"


def _session_of(user: User) -> str:
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return f"{settings.SESSION_COOKIE_NAME}={session.session_key}"


async def test_a_member_asks_with_their_session_and_an_outsider_cannot(world: World) -> None:
    bob = await platform_unit(lambda: factories.make_member(tenant=world.tenant, email="bob@acme.example"))
    charlie = await platform_unit(
        lambda: factories.make_member(tenant=factories.make_tenant(), email="charlie@x.example")
    )
    for user, expected in ((bob, "turn.finished"), (charlie, "error")):
        cookie = await platform_unit(_session_of, user)
        socket = Socket(Cookie=cookie, Host="testserver", Origin="http://testserver")
        await socket.connect()
        await socket.say(type="ask", assistant=str(world.assistant.pk), text="pump?")
        assert (await socket.hear_turn())[-1]["type"] == expected
        await socket.disconnect()


@pytest.mark.parametrize("origin", ["http://evil.example", "null", ""])
async def test_a_foreign_origin_cannot_use_a_session(world: World, origin: str) -> None:
    bob = await platform_unit(lambda: factories.make_member(tenant=world.tenant, email="bob@acme.example"))
    cookie = await platform_unit(_session_of, bob)
    headers = {"Cookie": cookie, "Host": "testserver"} | ({"Origin": origin} if origin else {})
    socket = Socket(**headers)
    await socket.connect()
    await socket.say(type="ask", assistant=str(world.assistant.pk), text="pump?")
    assert (await socket.hear())["code"] == "not_authenticated"
    await socket.disconnect()


async def test_many_sockets_do_not_wait_for_each_other(world: World) -> None:
    world.fake.script()
    sockets = [Socket(Authorization=f"Bearer {world.key}") for _ in range(10)]
    await asyncio.gather(*(socket.connect() for socket in sockets))
    for socket in sockets:
        await socket.hear()
        await socket.say(type="ask", assistant="guide", text="pump?")
    ends = await asyncio.gather(*(socket.hear_turn() for socket in sockets))
    assert {frames[-1]["type"] for frames in ends} == {"turn.finished"}
    await asyncio.gather(*(socket.disconnect() for socket in sockets))


# --- A frame that is sent again ---------------------------------------------------------------------------------------

UNIQUE = "6f9619ff-8b86-d011-b42d"


async def said(world: World, **frame: Any) -> dict[str, Any]:
    """The first frame that a new socket, as after a reconnect, hears of a turn; or the error."""
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    await socket.hear()
    await socket.say(**frame)
    frames = await socket.hear_turn()
    await socket.disconnect()
    return frames[0]


async def test_a_question_that_is_sent_again_is_the_same_turn(world: World) -> None:
    ask = {"type": "ask", "conversation": str(world.conversation.pk), "text": "pump?", "client_id": "q-1"}
    first, again = [await said(world, **ask) for _ in range(2)]
    assert first["turn"] == again["turn"]
    assert (await said(world, **{**ask, "client_id": "q-2"}))["turn"] != first["turn"]
    other = await said(world, **{**ask, "text": "mill?"})
    assert (other["type"], other["code"], other["client_id"]) == ("error", "idempotency_conflict", "q-1")
    elsewhere = await platform_unit(
        lambda: factories.make_conversation(tenant=world.tenant, assistant=world.assistant).pk
    )
    assert (await said(world, **{**ask, "conversation": str(elsewhere)}))["turn"] != first["turn"]
    for deed in ("regenerate", "continue"):
        answers = [await said(world, type=deed, turn=first["turn"], client_id="q-1") for _ in range(2)]
        assert answers[0].get("turn") == answers[1].get("turn") != first["turn"]


@pytest.mark.parametrize("who", [{"user": "zoe", "client_id": "q-1"}, {"client_id": UNIQUE}])
async def test_sent_again_it_begins_no_second_conversation(world: World, who: dict[str, str]) -> None:
    ask = {"type": "ask", "assistant": "guide", "text": "pump?", **who}
    frames = await asyncio.gather(*(said(world, **ask) for _ in range(5)))
    assert len({(frame["turn"], frame["conversation"]) for frame in frames}) == 1
    assert await platform_unit(Conversation.objects.count) == 2  # the world's own, too
    # A page that counts from one again asks something else by the same name: another question.
    other = await said(world, **{**ask, "text": "mill?"})
    assert other["conversation"] != frames[0]["conversation"]


async def test_sent_again_after_a_failure_it_goes_on_in_the_conversation_that_was_begun(world: World) -> None:
    ask = {"type": "ask", "assistant": "guide", "text": "pump?", "client_id": UNIQUE}
    world.fake.script(Reply(status=429, body="busy"))
    failed, again = [await said(world, **ask) for _ in range(2)]
    assert again["turn"] != failed["turn"]
    assert [again[name] for name in ("conversation", "question")] == [failed["conversation"], failed["question"]]


async def test_two_who_name_nobody_do_not_meet_by_a_short_name(world: World) -> None:
    """All of them are one end user: the second must not be shown what the first one said."""
    ask = {"type": "ask", "assistant": "guide", "text": "hello", "client_id": "q-1"}
    first, second = [await said(world, **ask) for _ in range(2)]
    assert first["conversation"] != second["conversation"]


async def test_a_question_that_is_refused_begins_no_conversation(world: World) -> None:
    turn = str(uuid.uuid4())
    refused = await said(world, type="ask", assistant="guide", text="pump?", edits=turn, client_id=UNIQUE)
    assert refused["code"] == "not_found"
    assert await platform_unit(Conversation.objects.count) == 1
