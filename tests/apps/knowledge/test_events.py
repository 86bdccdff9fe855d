"""Following a document: each change as it happens, to the end, and no further than its owner may look."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from django.utils import timezone

from apps.knowledge import events_api
from apps.knowledge.models import Document
from apps.tenants.models import ApiKey, Tenant
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.apps.conversations.conftest import Api, Seen, read_sse


class World(NamedTuple):
    tenant: Tenant
    key: str
    document: Document

    @property
    def address(self) -> str:
        return f"/api/v1/documents/{self.document.pk}/events"

    async def becomes(self, **fields: Any) -> None:
        await platform_unit(lambda: Document.objects.filter(pk=self.document.pk).update(**fields))


@pytest.fixture
async def world(database: None, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(events_api, "POLL_SECONDS", 0.02)

    def build() -> World:
        tenant = factories.make_tenant("acme")
        collection = factories.make_collection(tenant=tenant)
        document = factories.make_document(tenant=tenant, collection=collection, status="queued")
        return World(tenant, factories.make_key(tenant=tenant), document)

    return await platform_unit(build)


async def follow(world: World) -> AsyncIterator[Seen]:
    response = await Api(world.key).get(world.address)
    assert (response.status_code, response["Content-Type"]) == (200, "text/event-stream")
    return read_sse(response)


async def test_every_change_is_told_until_it_is_ready(world: World) -> None:
    events = await follow(world)
    told = [(await anext(events)).body]
    for fields in ({"status": "embedding", "progress_total": 9}, {"progress_done": 4}, {"status": "ready"}):
        await world.becomes(**fields)
        told.append((await anext(events)).body)
    assert [event async for event in events] == []
    assert [(body["status"], body["progress"]["done"]) for body in told] == [
        ("queued", 0),
        ("embedding", 0),
        ("embedding", 4),
        ("ready", 4),
    ]
    assert told[-1] == (await Api(world.key).get(f"/api/v1/documents/{world.document.pk}")).json()


async def test_each_state_tells_what_is_to_be_known_of_it(world: World) -> None:
    await platform_unit(lambda: factories.make_document(tenant=world.tenant, collection=world.document.collection))
    other = await platform_unit(factories.make_tenant, "globex")
    others = await platform_unit(lambda: factories.make_collection(tenant=other))
    for _ in range(3):
        await platform_unit(lambda: factories.make_document(tenant=other, collection=others, status="queued"))
    soon = timezone.now() + datetime.timedelta(seconds=40)
    events = await follow(world)
    queued = (await anext(events)).body
    await world.becomes(status="extracting", progress_done=3, progress_total=7)
    extracting = (await anext(events)).body
    await world.becomes(status="retrying", failure_code="model_busy", failure_message="Busy.", next_attempt_at=soon)
    retrying = (await anext(events)).body
    await world.becomes(status="ready")
    # The other tenant has three, and one turn before this one's.
    assert (queued["ahead"], queued["retry_at"]) == (1, None)
    assert extracting["progress"] == {"done": 3, "total": 7, "unit": "pages"}
    assert extracting["ahead"] is None
    assert datetime.datetime.fromisoformat(retrying["retry_at"]) == soon
    assert retrying["failure"] == {"code": "model_busy", "message": "Busy."}


async def test_a_failure_ends_it_with_its_reason(world: World) -> None:
    await world.becomes(status="failed", failure_code="encrypted", failure_message="It is encrypted.")
    (event,) = [event async for event in await follow(world)]
    assert (event.type, event.body["failure"]["code"]) == ("document", "encrypted")


async def test_a_deleted_document_ends_it(world: World) -> None:
    events = await follow(world)
    await anext(events)
    await platform_unit(lambda: Document.objects.filter(pk=world.document.pk).delete())
    (event,) = [event async for event in events]
    assert (event.type, event.body["code"]) == ("error", "not_found")


async def test_a_revoked_key_ends_it(world: World) -> None:
    events = await follow(world)
    await anext(events)
    await platform_unit(lambda: ApiKey.objects.all().delete())
    (event,) = [event async for event in events]
    assert (event.type, event.body["code"]) == ("error", "not_authenticated")


async def test_silence_is_filled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_api, "HEARTBEAT_SECONDS", 0.0)
    response = await Api(world.key).get(world.address)
    stream = aiter(response.streaming_content)
    assert (await anext(stream)).startswith(b"retry: 2000\nevent: document\n")
    assert await anext(stream) == b": keep-alive\n\n"


async def test_anothers_document_is_a_404(world: World) -> None:
    outsider = await platform_unit(lambda: factories.make_key(tenant=factories.make_tenant("globex")))
    assert (await Api(outsider).get(world.address)).status_code == 404
