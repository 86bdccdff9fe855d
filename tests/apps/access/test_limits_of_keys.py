"""Keys that reach some assistants only, or come from some addresses only."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest

from apps.assistants.models import Assistant
from apps.conversations.models import Conversation
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.abuse.conftest import bearer, send, undisturbed, world
from tests.apps.conversations.conftest import Api, World, fake
from tests.apps.conversations.test_websocket import Socket

__all__ = ["fake", "undisturbed", "world"]

INSIDE, OUTSIDE, INSIDE6, OUTSIDE6 = "203.0.113.7", "198.51.100.7", "2001:db8::7", "2001:db9::7"
RANGES = ["203.0.113.0/24", "2001:db8::/32"]


# --- Assistants ---


async def others(world: World) -> tuple[str, Assistant, Conversation]:
    """A key for world's assistant alone; and what is beyond it."""

    def prepare() -> tuple[str, Assistant, Conversation]:
        other = factories.make_assistant(tenant=world.tenant, slug="other")
        talk = factories.make_conversation(tenant=world.tenant, assistant=other)
        return factories.make_key(tenant=world.tenant, assistant_ids=[world.assistant.pk]), other, talk

    return await platform_unit(prepare)


async def test_only_its_assistants_are_listed(world: World) -> None:
    key, _, talk = await others(world)
    assistants = (await Api(key).get("/api/v1/assistants")).json()["results"]
    assert [assistant["slug"] for assistant in assistants] == ["guide"]
    models = (await Api(key).get("/v1/models")).json()["data"]
    assert [model["id"] for model in models] == ["guide"]
    talks = (await Api(key).get("/api/v1/conversations")).json()["results"]
    assert [talk["id"] for talk in talks] == [str(world.conversation.pk)]
    assert str(talk.pk) in (await Api(world.key).get("/api/v1/conversations")).content.decode()


async def test_others_are_like_unknown_ones(world: World) -> None:
    key, other, talk = await others(world)
    asks: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/api/v1/conversations/{talk}", {}),
        ("PATCH", "/api/v1/conversations/{talk}", {"title": "x"}),
        ("DELETE", "/api/v1/conversations/{talk}", {}),
        ("GET", "/api/v1/conversations/{talk}/messages", {}),
        ("POST", "/api/v1/conversations/{talk}/turns", {"text": "pump?"}),
        ("POST", "/api/v1/conversations", {"assistant": "{slug}"}),
        ("GET", "/v1/models/{slug}", {}),
        ("POST", "/v1/chat/completions", {"model": "{slug}", "messages": [{"role": "user", "content": "pump?"}]}),
    ]
    for method, path, body in asks:
        bodies = []
        for talk_id, slug in ((talk.pk, other.slug), (uuid.uuid4(), "nobody")):
            fill = {"talk": talk_id, "slug": slug}
            sent = {name: value.format(**fill) if isinstance(value, str) else value for name, value in body.items()}
            text = json.dumps(sent)
            answer = await Api(key).generic(method, path.format(**fill), text, content_type="application/json")
            assert answer.status_code in {400, 404}, (method, path)
            told = re.sub(rf'"request_id": ?"\w+"|{slug}', "", answer.content.decode())
            bodies.append((answer.status_code, told))
        assert bodies[0] == bodies[1], (method, path)
    assert await platform_unit(Conversation.objects.filter(pk=talk.pk, title="").exists)


async def test_no_frame_reaches_others(world: World) -> None:
    key, other, talk = await others(world)
    world.script(*["word "] * 300, delay=0.02)
    asked = await Api(world.key).post(
        f"/api/v1/conversations/{talk.pk}/turns",
        {"text": "pump?"},
        content_type="application/json",
        headers={"Accept": "text/event-stream"},
    )
    first = await anext(aiter(asked.streaming_content))
    turn = str((await world.only_turn()).pk)
    assert b"turn.started" in first
    socket = Socket(Authorization=f"Bearer {key}")
    await socket.connect()
    assert (await socket.hear())["type"] == "ready"
    for frame in (
        {"type": "ask", "assistant": other.slug, "text": "pump?"},
        {"type": "ask", "conversation": str(talk.pk), "text": "pump?"},
        {"type": "resume", "turn": turn},
        {"type": "stop", "turn": turn},
    ):
        await socket.say(**frame)
        assert (await socket.hear())["code"] == ("invalid_request" if "assistant" in frame else "not_found"), frame
    assert (await world.turn(turn)).state == "running"
    await socket.disconnect()


async def test_its_own_assistant_answers(world: World) -> None:
    key, _, _ = await others(world)
    world.script("Prime it.")
    answer = await Api(key).ask(world.turns, "pump?")
    assert (answer.status_code, answer.json()["text"]) == (200, "Prime it.")


async def test_a_key_of_a_deleted_assistant_reaches_none(world: World) -> None:
    """An empty list would mean all."""
    only = await platform_unit(lambda: factories.make_key(tenant=world.tenant, assistant_ids=[uuid.uuid4()]))
    assert (await Api(only).get("/api/v1/assistants")).json()["results"] == []


# --- Addresses ---


async def ways_in(key: str, address: str, **headers: str) -> set[int]:
    """How every kind of door answers to a client at this address."""
    given = bearer(key) | {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    found = {
        (await send("GET", path, given, client=address)).status
        for path in ("/api/v1/conversations", f"/api/v1/turns/{uuid.uuid4()}", "/v1/models")
    }
    socket = Socket(Authorization=f"Bearer {key}", **headers)
    socket.scope["client"] = [address, 40000]
    await socket.connect()
    found.add(200 if (await socket.hear())["type"] == "ready" else 401)
    await socket.disconnect()
    return found - {404}  # the turn that there is not


@pytest.mark.parametrize("address", [INSIDE, INSIDE6, f"::ffff:{INSIDE}"])
async def test_from_inside_it_opens_every_door(world: World, address: str) -> None:
    key = await platform_unit(lambda: factories.make_key(tenant=world.tenant, ip_ranges=RANGES))
    assert await ways_in(key, address) == {200}


@pytest.mark.parametrize("address", [OUTSIDE, OUTSIDE6, f"::ffff:{OUTSIDE}", "", "/run/parley.sock"])
async def test_from_outside_it_opens_none(world: World, address: str) -> None:
    key = await platform_unit(lambda: factories.make_key(tenant=world.tenant, ip_ranges=RANGES))
    assert await ways_in(key, address) == {401}
    assert await ways_in(key, INSIDE) == {200}
    assert await ways_in(key, address) == {401}  # also while it is remembered


@pytest.mark.parametrize("header", ["X_Forwarded_For", "X_Real_Ip", "Forwarded", "X_Client_Ip"])
async def test_an_address_that_a_client_invents_changes_nothing(world: World, header: str) -> None:
    """Behind our own proxy the server itself puts the client's address in place: config/run.py."""
    key = await platform_unit(lambda: factories.make_key(tenant=world.tenant, ip_ranges=RANGES))
    assert await ways_in(key, OUTSIDE, **{header: INSIDE}) == {401}
    assert await ways_in(key, INSIDE, **{header: OUTSIDE}) == {200}


async def test_the_refusal_is_that_of_an_unknown_key(world: World) -> None:
    key = await platform_unit(lambda: factories.make_key(tenant=world.tenant, ip_ranges=RANGES))
    bodies = set()
    for credential in (key, "parley_nonsense"):
        answer = await send("GET", "/api/v1/conversations", bearer(credential), client=OUTSIDE)
        bodies.add((answer.status, answer.body.partition(b'"request_id"')[0]))
    assert len(bodies) == 1
