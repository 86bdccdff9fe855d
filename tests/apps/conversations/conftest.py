"""The cast and a scripted model server for tests of turns."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import AsyncClient

from apps.access.authentication import Caller
from apps.assistants.models import Assistant
from apps.conversations import runner
from apps.conversations.models import Conversation, Turn
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.tenants import rights
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit
from apps.usage.models import UsageRecord
from chatbot.events import START, Event
from tests import factories
from tests.fakes.inference import FakeInference, Reply, embedding

PASSAGE = "The pump must be primed before the first brew."


@dataclass(frozen=True)
class World:
    """acme, with an assistant that knows one passage; and globex, the outsider."""

    tenant: Tenant
    key: str
    assistant: Assistant
    conversation: Conversation
    outsider_key: str
    fake: FakeInference

    @property
    def caller(self) -> Caller:
        return Caller(tenant=self.tenant, scopes=rights.ALL)

    @property
    def turns(self) -> str:
        return f"/api/v1/conversations/{self.conversation.pk}/turns"

    def script(self, *tokens: str, **how: Any) -> None:
        self.fake.script(Reply(tokens=list(tokens), **how))

    async def turn(self, turn_id: str) -> Turn:
        return await platform_unit(
            lambda: Turn.objects.for_tenant(self.tenant).select_related("question", "answer").get(pk=turn_id)
        )

    async def only_turn(self) -> Turn:
        return await platform_unit(
            lambda: Turn.objects.for_tenant(self.tenant).select_related("question", "answer").get()
        )

    async def bill(self, turn_id: str | uuid.UUID) -> UsageRecord:
        return await platform_unit(lambda: UsageRecord.objects.for_tenant(self.tenant).get(turn_id=turn_id))


def build(base_url: str) -> dict[str, Any]:
    tenant = factories.make_tenant("acme")
    outsider = factories.make_tenant("globex")
    factories.make_endpoint(base_url)
    embeddings = factories.make_endpoint(base_url, kind=Endpoint.Kind.EMBEDDING)
    index = factories.make_index(tenant=tenant, endpoint=embeddings)
    collection = factories.make_collection(tenant=tenant, index=index)
    document = factories.make_document(tenant=tenant, collection=collection, title="Manual")
    factories.make_passage(
        tenant=tenant, document=document, text=PASSAGE, vector=embedding(PASSAGE), heading=["First use"], page=3
    )
    assistant = factories.make_assistant(tenant=tenant, collections=(collection,), slug="guide")
    return {
        "tenant": tenant,
        "key": factories.make_key(tenant=tenant),
        "assistant": assistant,
        "conversation": factories.make_conversation(tenant=tenant, assistant=assistant),
        "outsider_key": factories.make_key(tenant=outsider),
    }


@pytest.fixture
async def fake() -> AsyncIterator[FakeInference]:
    async with FakeInference() as server:
        yield server


@pytest.fixture
async def world(database: None, fake: FakeInference) -> AsyncIterator[World]:
    gateway.forget()
    yield World(**await platform_unit(build, fake.base_url), fake=fake)
    await runner.drain(5)


class Api(AsyncClient):
    """A client with a key."""

    def __init__(self, key: str = "") -> None:
        super().__init__()
        self.credential = {"Authorization": f"Bearer {key}"} if key else {}

    def generic(self, *args: Any, headers: dict[str, str] | None = None, **extra: Any) -> Any:
        # The factory's own default headers reach WSGI requests only.
        return super().generic(*args, headers=self.credential | (headers or {}), **extra)

    async def ask(self, url: str, text: Any, **headers: str) -> Any:
        return await self.post(url, {"text": text}, content_type="application/json", headers=headers)


@pytest.fixture
def api(world: World) -> Api:
    return Api(world.key)


async def until_it_says(turn_id: uuid.UUID, kind: type[Event]) -> None:
    """Wait for the first event of this kind of a turn that runs here."""
    async with asyncio.timeout(30):
        while (log := runner.log_of(turn_id)) is None:  # noqa: ASYNC110 - a turn that starts has no event for tests
            await asyncio.sleep(0.01)
        async for batch in log.follow(START):
            if any(isinstance(event, kind) for _, event in batch):
                return


async def answers_of(world: World, *asking: Coroutine[Any, Any, Any]) -> list[Any]:
    """Of questions that come at once, of which one is answered by a reply that is held until all others are refused."""
    asked = [asyncio.ensure_future(one) for one in asking]
    async with asyncio.timeout(60):
        while sum(one.done() for one in asked) < len(asked) - 1:  # noqa: ASYNC110 - wait() counts none but the first
            await asyncio.sleep(0.01)
    world.fake.release()
    return await asyncio.gather(*asked)


@dataclass(frozen=True)
class Seen:
    """An event as a client saw it, through whichever door."""

    type: str
    cursor: str
    body: dict[str, Any]


async def read_sse(response: Any) -> AsyncIterator[Seen]:
    """The events of a streaming response, as they come."""
    buffer = ""
    async for chunk in response.streaming_content:
        buffer += chunk.decode()
        *blocks, buffer = buffer.split("\n\n")
        for block in blocks:
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields:
                yield Seen(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
