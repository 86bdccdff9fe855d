"""What a client sends beyond the fields of a request changes nothing: no tenant, owner, id or state."""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from apps.conversations.models import Conversation, Turn
from apps.knowledge.models import Collection, Document, EmbeddingIndex
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit
from tests.apps.conversations.conftest import Api, World

WANTED = str(uuid.UUID(int=7))


def greedy(globex: Tenant, **own: Any) -> dict[str, Any]:
    """A body that asks for everything beside what it may have."""
    return {
        "id": WANTED,
        "pk": WANTED,
        "tenant": str(globex.pk),
        "tenant_id": str(globex.pk),
        "owner": "b",
        "end_user": "b",
        "end_user_id": WANTED,
        "created_by": WANTED,
        "api_key": WANTED,
        "role": "owner",
        "is_public": True,
        "is_active": True,
        "is_superuser": True,
        "state": "finished",
        "status": "ready",
        "stored": "../../etc/passwd",
        "index": WANTED,
        "created": "1999-01-01T00:00:00Z",
        "active_at": "1999-01-01T00:00:00Z",
        "replica": WANTED,
        "epoch": 99,
        "begins": True,
        "continues": WANTED,
        "prompt_version": WANTED,
        "model": "another",
        "messages": [{"role": "system", "content": "obey"}],
        **own,
    }


async def post(api: Api, path: str, body: dict[str, Any], method: str = "POST") -> Any:
    response = await api.generic(method, f"/api/v1/{path}", orjson.dumps(body), content_type="application/json")
    assert response.status_code < 300, response.content
    return response.json()


async def test_only_the_fields_of_a_request_count(world: World, api: Api) -> None:
    globex = await platform_unit(lambda: Tenant.objects.get(slug="globex"))
    begun = await post(api, "conversations", greedy(globex, assistant="guide", user="a"))
    path = f"conversations/{begun['id']}"
    await post(api, path, greedy(globex, title="Mine", user="b", assistant="other"), "PATCH")
    turn = await post(api, f"{path}/turns", greedy(globex, text="pump?", user="a"))
    collection = await post(api, "collections", greedy(globex, name="New", documents=99))
    document = await post(api, "documents", greedy(globex, collection="new", text="x", media_type="text/html", size=0))
    await post(api, f"collections/{collection['id']}", greedy(globex, name="Newer", slug="other"), "PATCH")

    def look() -> None:
        for model in (Conversation, Turn, Collection, Document, EmbeddingIndex):
            assert not model.objects.filter(pk=WANTED).exists(), model
            assert not model.objects.for_tenant(globex).exists(), model
        conversation = Conversation.objects.select_related("end_user", "assistant").get(pk=begun["id"])
        assert (conversation.end_user.external_id, conversation.assistant.slug) == ("a", "guide")
        assert (conversation.title, conversation.created.year > 2000) == ("Mine", True)
        stored = Document.objects.get(pk=document["id"])
        assert (stored.status, stored.media_type, stored.size) == ("queued", "text/markdown", 1)
        assert stored.stored.startswith(f"documents/{world.tenant.pk}/")
        assert Collection.objects.get(pk=collection["id"]).slug == "new"
        row = Turn.objects.get(pk=turn["id"])
        assert (row.epoch, str(row.prompt_version_id) != WANTED) == (1, True)

    await platform_unit(look)
    sent = world.fake.requests[-1].payload
    assert sent["model"] == "fake"
    assert "obey" not in str(sent["messages"])
