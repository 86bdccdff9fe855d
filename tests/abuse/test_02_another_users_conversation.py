"""An end user cannot read, continue, follow or stop what is another end user's, by whichever door."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

import pytest

from apps.conversations.models import Conversation, Message
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.apps.conversations.conftest import Api, World
from tests.apps.conversations.test_websocket import Socket
from tests.browser.conftest import session_of


@dataclass(frozen=True)
class Held:
    """What user a holds."""

    conversation: str
    turn: str


@pytest.fixture
async def held(world: World, api: Api) -> Held:
    begun = await api.post(
        "/api/v1/conversations", {"assistant": "guide", "user": "a"}, content_type="application/json"
    )
    turn = await api.post(
        f"/api/v1/conversations/{begun.json()['id']}/turns",
        {"text": "a secret of a", "user": "a"},
        content_type="application/json",
    )
    return Held(begun.json()["id"], turn.json()["id"])


async def test_rest_answers_as_for_an_unknown_id(world: World, api: Api, held: Held) -> None:
    for method, path, body in (
        ("GET", "conversations/{conversation}?user=b", None),
        ("PATCH", "conversations/{conversation}?user=b", {"title": "b was here"}),
        ("DELETE", "conversations/{conversation}?user=b", None),
        ("GET", "conversations/{conversation}/messages?user=b", None),
        ("POST", "conversations/{conversation}/turns", {"text": "go on", "user": "b"}),
        ("POST", "conversations/{conversation}/turns", {"text": "go on", "user": "b", "attachments": []}),
        ("GET", "conversations/{conversation}/attachments?user=b", None),
        ("DELETE", "conversations/{conversation}/attachments/{turn}?user=b", None),
        ("GET", "turns/{turn}?user=b", None),
        ("GET", "turns/{turn}/events?user=b", None),
        ("POST", "turns/{turn}/stop?user=b", None),
        ("POST", "turns/{turn}/regenerate?user=b", None),
        ("POST", "turns/{turn}/continue?user=b", None),
    ):
        answers = []
        for conversation, turn in ((held.conversation, held.turn), (uuid.uuid4(), uuid.uuid4())):
            url = f"/api/v1/{path.format(conversation=conversation, turn=turn)}"
            response = await api.generic(method, url, _json(body), content_type="application/json")
            answers.append((response.status_code, response.json()["code"], response.json()["message"]))
        assert answers[0] == answers[1] == (404, "not_found", answers[0][2]), path
    assert await platform_unit(Message.objects.filter(conversation=held.conversation).count) == 2
    assert await platform_unit(lambda: Conversation.objects.get(pk=held.conversation).title) == "a secret of a"


async def test_a_list_narrowed_to_b_names_nothing_of_a(api: Api, held: Held) -> None:
    listed = await api.get("/api/v1/conversations?user=b")
    assert listed.json()["results"] == []


async def test_a_frame_for_b_does_not_continue_a(world: World, held: Held) -> None:
    socket = Socket(Authorization=f"Bearer {world.key}")
    await socket.connect()
    await socket.hear()
    for conversation in (held.conversation, str(uuid.uuid4())):
        await socket.say(type="ask", conversation=conversation, text="go on", user="b")
        frame = await socket.hear()
        assert (frame["code"], frame["message"]) == ("not_found", "There is no such conversation.")
    await socket.disconnect()


async def test_staff_do_not_continue_what_an_end_user_or_a_colleague_began(world: World, held: Held) -> None:
    """Not even by naming them: who a session is, its cookie says."""
    alice, bob = [await platform_unit(lambda: factories.make_member(tenant=world.tenant)) for _ in range(2)]
    for person, others in ((alice, [held.conversation]), (bob, [held.conversation])):
        session = await platform_unit(session_of, person)
        socket = Socket(Cookie=f"sessionid={session}", Origin="http://testserver", Host="testserver")
        await socket.connect()
        await socket.say(type="ask", assistant=str(world.assistant.pk), text="mine", user="a")
        own = (await socket.hear_turn())[0]
        assert await platform_unit(_owner, own["conversation"]) == f"staff:{person.email}"
        for conversation in others:
            await socket.say(type="ask", conversation=conversation, text="go on", user="a")
            assert (await socket.hear())["code"] == "not_found"
        await socket.say(type="resume", turn=held.turn)
        assert (await socket.hear())["code"] == "not_found"
        for deed in ("stop", "regenerate", "continue"):
            await socket.say(type=deed, turn=held.turn)
            assert (await socket.hear())["code"] == "not_found"
        await socket.disconnect()


def _owner(conversation: str) -> str:
    return str(Conversation.objects.select_related("end_user").get(pk=conversation).end_user.external_id)


def _json(body: dict[str, str] | None) -> str:
    return json.dumps(body) if body else ""
