"""What nobody waits for stands in line at an endpoint, whichever process it comes from; questions do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

import pytest
from django.conf import settings as django_settings
from hypothesis import given
from hypothesis import strategies as st

from apps.edge.shared_state import redis as shared
from apps.inference import gateway, line
from apps.inference.models import Endpoint
from apps.knowledge.collections import create_collection
from apps.knowledge.ingest import ingest
from apps.knowledge.models import Collection
from apps.tenants.models import Tenant
from chatbot.inference.client import Client
from chatbot.inference.pool import Pool
from tests.apps.knowledge.asking import client_of, post
from tests.apps.knowledge.ingesting import added, in_thread, ingested, manual, until
from tests.factories import make_tenant
from tests.fakes.inference import FakeInference, Reply

pools: ContextVar[Pool] = ContextVar("pools")


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> None:
    """Each thread that sets `pools` asks endpoints as a process of its own does."""
    shared_by_others = gateway.pool

    async def pool() -> Pool:
        return pools.get(None) or await shared_by_others()

    monkeypatch.setattr(gateway, "pool", pool)


def process(endpoint: Endpoint) -> Pool:
    allowed = django_settings.PARLEY_PRIVATE_ENDPOINT_HOSTS
    return Pool(Client(allowed=allowed), [gateway.engine_endpoint(endpoint)])


@given(st.integers(1, 10_000))
def test_questions_are_left_a_quarter_and_one_slot_at_least(room: int) -> None:
    taken = line.slots(room)
    assert 1 <= taken <= room
    assert room == 1 or 1 <= room - taken <= max(1, room / 4)


def test_a_question_gets_its_slot_while_other_processes_embed_documents(
    manuals: Collection, endpoint: Endpoint, embeddings: FakeInference, processes: None
) -> None:
    endpoint.limit = 4
    endpoint.save()
    gateway.forget()
    embeddings.script(Reply(kind="embedding", when="Section", first_delay=0.2, always=True))
    flooding = [create_collection(make_tenant(f"flood-{n}"), name="Manuals") for n in range(3)]
    documents = [added(flood.tenant, flood, manual(150)) for flood in flooding]

    def work(document: Any) -> None:
        pools.set(process(endpoint))
        ingest(document.tenant_id, document.pk)

    client = client_of(manuals.tenant)
    with ExitStack() as threads:
        for document in documents:
            threads.enter_context(in_thread(lambda document=document: work(document)))  # type: ignore[misc]
        until(lambda: embeddings.most_at_once == 3)
        for number in range(20):
            found = post(client, "search", {"collection": "manuals", "query": f"Which valve is number {number}?"})
            assert found.json()["timings"]["degraded"] == []
    assert embeddings.most_at_once == 4, "three batches, and beside them a question"
    for document in documents:
        document.refresh_from_db()
        assert document.status == "ready"


class Standing:
    """Those who stand in line at an endpoint that answers one at a time, as `processes` has them."""

    def __init__(self, endpoint: Endpoint) -> None:
        endpoint.limit = 1
        pools.set(process(endpoint))
        self.endpoint = endpoint
        self.went: list[int] = []
        self.leave = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def stand(self) -> None:
        """The next one, once it is in line."""
        number = len(self.tasks)
        self.tasks.append(asyncio.create_task(self._stand(number)))
        await self.until(lambda length: length + self.left >= number + 1)

    async def _stand(self, number: int) -> None:
        async with line.place(self.endpoint):
            self.went.append(number)
            await self.leave.wait()

    @property
    def left(self) -> int:
        return sum(task.done() for task in self.tasks)

    async def until(self, holds: Callable[[int], bool]) -> None:
        """Asked with how many are in line."""
        async with asyncio.timeout(20):
            while not holds(int(await (await shared()).zcard(f"parley:line:{{{self.endpoint.pk}}}:line"))):  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@pytest.fixture
def standing(endpoint: Endpoint, processes: None) -> Standing:
    return Standing(endpoint)


async def test_who_came_first_goes_first(standing: Standing) -> None:
    for _ in range(5):
        await standing.stand()
    assert standing.went == [0]
    standing.leave.set()
    await asyncio.gather(*standing.tasks)
    assert standing.went == [0, 1, 2, 3, 4]


async def test_who_gives_up_is_waited_for_by_nobody(standing: Standing) -> None:
    for _ in range(3):
        await standing.stand()
    standing.tasks[1].cancel()
    standing.tasks[0].cancel()
    await standing.until(lambda _: standing.went == [0, 2])
    standing.leave.set()
    await standing.tasks[2]
    await standing.until(lambda length: length == 0)


async def test_who_died_at_the_endpoint_is_left_out(standing: Standing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "LIVES", 1.0)
    monkeypatch.setattr(line, "HEARD_EVERY", 3600.0)
    await standing.stand()
    await standing.stand()
    await standing.until(lambda _: standing.went == [0, 1])
    standing.leave.set()


async def test_who_lives_keeps_the_place(standing: Standing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "LIVES", 5.0)
    monkeypatch.setattr(line, "HEARD_EVERY", 0.1)
    await standing.stand()
    await standing.stand()
    await asyncio.sleep(5.5)
    assert standing.went == [0]
    standing.leave.set()
    await asyncio.gather(*standing.tasks)


async def test_redis_that_forgets_only_mixes_up_the_order(standing: Standing) -> None:
    for _ in range(3):
        await standing.stand()
    await (await shared()).flushall()
    standing.leave.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*standing.tasks)
    assert sorted(standing.went) == [0, 1, 2]


def test_without_redis_documents_are_embedded_all_the_same(acme: Tenant, manuals: Collection, settings: Any) -> None:
    document = added(acme, manuals, manual(20))
    settings.REDIS_URL = "redis://127.0.0.1:9"
    assert ingested(acme, document).status == "ready"
