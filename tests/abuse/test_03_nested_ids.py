"""Ids inside a body, an address or a query are authorised one by one: another tenant's is an unknown one."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from apps.conversations.models import Message
from apps.knowledge.models import Collection, Document
from apps.tenants.scoping import platform_unit
from apps.webhooks import registration
from tests import factories
from tests.abuse.conftest import bearer, send
from tests.apps.conversations.conftest import Api, World

Request = tuple[str, str, dict[str, Any] | None]


async def told(key: str, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, str]:
    headers = bearer(key) | {b"content-type": b"application/json"}
    path, _, query = path.partition("?")
    answer = await send(method, path, headers, json.dumps(body).encode() if body else b"", query=query.encode())
    return answer.status, re.sub(rb'"request_id": ?"[0-9a-f]*"', b"", answer.body).decode()


def nested(own: dict[str, str], ids: dict[str, str]) -> dict[str, Request]:
    """Requests of the outsider, each right but for the one id inside it."""
    question = {"text": "pump?"}
    return {
        "document into a collection": ("POST", "/api/v1/documents", {"collection": ids["collection"], "text": "x"}),
        "documents of a collection": ("GET", f"/api/v1/documents?collection={ids['collection']}", None),
        "search in a collection": ("POST", "/api/v1/search", {"collection": ids["collection"], "query": "pump"}),
        "conversation with an assistant": ("POST", "/api/v1/conversations", {"assistant": ids["assistant"]}),
        "model": (
            "POST",
            "/v1/chat/completions",
            {"model": ids["assistant"], "messages": [{"role": "user", "content": "pump?"}]},
        ),
        "visitor of an assistant": (
            "POST",
            "/api/v1/visitors",
            {"assistant": ids["assistant"], "origin": "https://shop.example"},
        ),
        "webhook for an assistant": (
            "POST",
            "/api/v1/webhooks",
            {"name": "x", "url": "https://r.example/", "events": ["turn.finished"], "assistants": [ids["assistant"]]},
        ),
        "webhook for a collection": (
            "POST",
            "/api/v1/webhooks",
            {
                "name": "x",
                "url": "https://r.example/",
                "events": ["document.ready"],
                "collections": [ids["collection"]],
            },
        ),
        "deliveries of a webhook": ("GET", f"/api/v1/webhooks/{ids['webhook']}/deliveries", None),
        "turn in a conversation": ("POST", f"/api/v1/conversations/{ids['conversation']}/turns", question),
        "question instead of a turn's": (
            "POST",
            f"/api/v1/conversations/{own['conversation']}/turns",
            {**question, "edits": ids["turn"]},
        ),
        "question after a turn": (
            "POST",
            f"/api/v1/conversations/{own['conversation']}/turns",
            {**question, "parent": ids["turn"]},
        ),
        "file of another's conversation": (
            "POST",
            f"/api/v1/conversations/{own['conversation']}/turns",
            {**question, "attachments": [ids["attachment"]]},
        ),
        "file of another's in an own conversation": (
            "DELETE",
            f"/api/v1/conversations/{own['conversation']}/attachments/{ids['attachment']}",
            None,
        ),
        "feedback on a message": ("POST", f"/api/v1/messages/{ids['message']}/feedback", {"rating": "up"}),
        "own conversation of another's user": (
            "GET",
            f"/api/v1/conversations/{own['conversation']}?user={ids['user']}",
            None,
        ),
    }


async def test_each_id_inside_is_looked_at(world: World, api: Api) -> None:
    assert (await api.ask(world.turns, "pump?")).status_code == 200
    key, own = await platform_unit(outsider, world)
    foreign = await platform_unit(ids_of, world)
    random = {name: str(uuid.uuid4()) for name in foreign}
    for what, request in nested(own, foreign).items():
        status, said = await told(key, *request)
        assert status in {400, 404}, what
        unknown = await told(key, *nested(own, random)[what])
        # An answer may repeat the id that was sent.
        assert json.dumps([status, said]).replace(foreign["assistant"], random["assistant"]) == json.dumps(unknown), (
            what
        )
    assert await platform_unit(Document.objects.count) == 1


def outsider(world: World) -> tuple[str, dict[str, str]]:
    tenant = factories.make_tenant("initech")
    assistant = factories.make_assistant(tenant=tenant, slug="own", takes_attachments=True)
    conversation = factories.make_conversation(tenant=tenant, assistant=assistant)
    return factories.make_key(tenant=tenant), {"conversation": str(conversation.pk)}


def ids_of(world: World) -> dict[str, str]:
    tenant = world.tenant
    message = Message.objects.for_tenant(tenant).filter(role=Message.Role.ASSISTANT).get()
    return {
        "assistant": str(world.assistant.pk),
        "collection": str(Collection.objects.for_tenant(tenant).get().pk),
        "conversation": str(message.conversation_id),
        "attachment": str(factories.make_attachment(conversation=world.conversation).pk),
        "message": str(message.pk),
        "turn": str(message.answered_by.pk),
        "user": message.conversation.end_user.external_id,
        "webhook": str(registration.register(tenant, name="x", url="https://r.example/", events=["turn.finished"]).pk),
    }
