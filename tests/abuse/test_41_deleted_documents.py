"""A deleted document is gone: from search, from answers, from lists, from the disk, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from django.conf import settings as django_settings
from django.db import connections

from apps.conversations.models import Conversation
from apps.conversations.tasks import forget_quotations
from apps.knowledge.ingest import add_document, ingest
from apps.knowledge.models import Chunk, Collection, Document, Embedding, Tombstone
from apps.knowledge.tasks import forget_deleted
from apps.tenants.scoping import platform_unit
from tests.apps.conversations.conftest import Api, World

CANARY = "periwinkle"


@pytest.fixture
async def document(world: World) -> Document:
    def add() -> Document:
        collection = Collection.objects.for_tenant(world.tenant).get()
        content = f"# Flower\n\nThe {CANARY} pump.".encode()
        return add_document(world.tenant, collection, name="x.md", content=content)[0]

    added: Document = await platform_unit(add)
    await asyncio.to_thread(ingest, world.tenant.pk, added.pk)
    return added


async def test_nothing_of_it_is_found(world: World, api: Api, document: Document) -> None:
    slug = await platform_unit(lambda: Collection.objects.for_tenant(world.tenant).get().slug)
    query = {"collection": slug, "query": f"{CANARY} pump"}

    async def found() -> str:
        searched = await api.post("/api/v1/search", query, content_type="application/json")
        await api.ask(world.turns, f"{CANARY} pump?")
        return searched.content.decode() + str(world.fake.requests[-1].payload["messages"][0])

    assert CANARY in (await found()).replace(f"{CANARY} pump?", "")
    assert (await api.delete(f"/api/v1/documents/{document.pk}")).status_code == 204
    assert CANARY not in (await found()).replace(f"{CANARY} pump?", "")
    assert (await api.get(f"/api/v1/documents/{document.pk}")).status_code == 404
    assert CANARY not in (await api.get("/api/v1/documents")).content.decode()

    def look() -> None:
        assert not Chunk.objects.filter(document_id=document.pk).exists()
        assert Embedding.objects.count() == 1, "another document's is left"
        assert not [path for path in Path(django_settings.MEDIA_ROOT).rglob("*") if path.is_file()]

    await platform_unit(look)


async def test_old_answers_say_that_it_is_deleted_and_quote_nothing(world: World, api: Api, document: Document) -> None:
    answered = (await api.ask(world.turns, f"{CANARY} pump?")).json()
    turn = f"/api/v1/turns/{answered['id']}"
    before = (await api.get(turn)).json()
    quoted = [source for source in before["sources"] if source["document"] == str(document.pk)]
    others = [source for source in before["sources"] if source["document"] != str(document.pk)]
    assert quoted
    assert all(CANARY in source["text"] for source in quoted)
    cited = [source for source in before["citations"] if source["document"] == str(document.pk)]
    assert cited, "the answer cites it"
    assert CANARY in await asyncio.to_thread(journals)
    assert (await api.delete(f"/api/v1/documents/{document.pk}")).status_code == 204
    # As the beat does every 20 seconds.
    await asyncio.to_thread(in_a_connection, forget_quotations, forget_deleted)
    after = (await api.get(turn)).json()
    left = {"title": "Deleted document", "heading": [], "text": ""}
    assert [one for one in after["sources"] if one["document"] == str(document.pk)] == [one | left for one in quoted]
    assert [one for one in after["citations"] if one["document"] == str(document.pk)] == [one | left for one in cited]
    assert [one for one in after["sources"] if one["document"] != str(document.pk)] == others
    assert (after["text"], after["question"]) == (before["text"], before["question"])
    assert CANARY not in await asyncio.to_thread(journals)
    assert not await platform_unit(Tombstone.objects.exists)


def journals() -> str:
    """All that is journaled of answers."""
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        return str([client.xrange(key) for key in client.scan_iter(match="parley:journal:*")])


def in_a_connection(*deeds: Callable[[], None]) -> None:
    try:
        for deed in deeds:
            deed()
    finally:
        connections.close_all()


async def test_a_worker_that_is_late_brings_nothing_back(world: World, api: Api, document: Document) -> None:
    await api.delete(f"/api/v1/documents/{document.pk}")
    await asyncio.to_thread(ingest, world.tenant.pk, document.pk)
    assert not await platform_unit(Chunk.objects.filter(document_id=document.pk).exists)


async def test_renaming_what_is_deleted_meanwhile_brings_nothing_back(world: World, api: Api) -> None:
    """Twenty times: the rename and the deletion race."""
    for _ in range(20):
        begun = await api.post("/api/v1/conversations", {"assistant": "guide"}, content_type="application/json")
        url = f"/api/v1/conversations/{begun.json()['id']}"
        await asyncio.gather(
            api.patch(url, {"title": "back"}, content_type="application/json"),
            api.delete(url),
            api.patch(url, {"title": "again"}, content_type="application/json"),
        )
        assert not await platform_unit(Conversation.objects.filter(pk=begun.json()["id"]).exists)
