"""Whose documents are taken next: by weight, in portions, and first of those of tenants who have no worker yet."""

from __future__ import annotations

import base64
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import redis as redis_client
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from apps.edge.queues import DOCUMENTS
from apps.knowledge import embedding, lease, queue, tasks
from apps.knowledge.collections import create_collection
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope, unit
from apps.usage.limit_models import Plan, TenantPlan
from apps.usage.shares import Share
from tests.apps.knowledge.ingesting import added, embedded, in_thread, live_texts, manual, until
from tests.fakes.inference import FakeInference, Reply

# --- The rule ---------------------------------------------------------------------------------------------------------


class Line:
    """Workers that take documents from a line into which each tenant puts as many as its share leaves room for."""

    def __init__(self, shares: dict[str, Share]) -> None:
        self.shares = shares
        self.line: deque[str] = deque()
        self.held: Counter[str] = Counter()
        for tenant in shares:
            self.send(tenant)

    def send(self, tenant: str) -> None:
        room = self.shares[tenant].room(self.line.count(tenant), self.held[tenant])
        self.line.extend([tenant] * room)

    def take(self) -> str:
        tenant = self.line.popleft()
        self.held[tenant] += 1
        self.send(tenant)
        return tenant

    def end(self, tenant: str) -> None:
        self.held[tenant] -= 1
        self.send(tenant)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 6), st.data())
def test_slots_go_by_weight_and_nobody_starves(weights: list[int], workers: int, data: st.DataObject) -> None:
    """However long each document takes, and with whatever number of workers."""
    line = Line({f"{n}": Share(weight, at_once=1_000) for n, weight in enumerate(weights)})
    whole, taken, busy = sum(weights), [], list[str]()
    for _ in range(6 * whole):
        if len(busy) == workers:
            line.end(busy.pop(data.draw(st.integers(0, workers - 1)) if whole < 12 else 0))
        taken.append(line.take())
        busy.append(taken[-1])
    for start in range(len(taken) - whole + 1):
        assert Counter(taken[start : start + whole]) == {f"{n}": weight for n, weight in enumerate(weights)}


@given(st.integers(1, 9), st.integers(1, 9), st.lists(st.booleans(), max_size=60))
def test_no_more_are_with_the_workers_than_the_plan_says(weight: int, at_once: int, deeds: list[bool]) -> None:
    line = Line({"acme": Share(weight, at_once)})
    for takes in deeds:
        if takes and line.line:
            line.take()
        elif line.held["acme"]:
            line.end("acme")
        assert line.line.count("acme") <= weight
        assert line.held["acme"] + line.line.count("acme") <= at_once
        assert line.held["acme"] or line.line, "its documents stand still"


# --- The line ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def broker(redis: None) -> Iterator[redis_client.Redis]:
    with redis_client.Redis.from_url(django_settings.CELERY_BROKER_URL) as client:
        yield client


@pytest.fixture
def news(globex: Tenant) -> Collection:
    return create_collection(globex, name="News")


def take(broker: redis_client.Redis) -> str:
    """Whose document a worker takes next; it does with it what it has to."""
    message = orjson.loads(broker.rpop(DOCUMENTS))
    (tenant, document), _, _ = orjson.loads(base64.b64decode(message["body"]))
    headers = {name: value for name, value in message["headers"].items() if name == queue.GAVE_WAY}
    tasks.ingest.apply(args=(tenant, document), headers=headers, throw=True)
    return str(tenant)


def hold(document: Document) -> None:
    """A worker is at it from now on."""
    assert async_to_sync(unit)(lease.claim, document.tenant_id, document.pk)
    with tenant_scope(document.tenant_id):
        queue.send_due(document.tenant_id)


def weigh(tenant: Tenant, weight: int) -> None:
    plan = Plan.objects.create(name=f"Weight {weight}", weight=weight, documents_at_once=20)
    TenantPlan.objects.update_or_create(tenant=tenant, defaults={"plan": plan})


def short(collection: Collection, documents: int) -> list[Document]:
    return [
        added(collection.tenant, collection, b"Text %d of it." % number, f"{number}.md") for number in range(documents)
    ]


def test_turns_are_shared_by_the_plans_weight(
    manuals: Collection, news: Collection, broker: redis_client.Redis
) -> None:
    weigh(manuals.tenant, 3)
    short(manuals, 9)
    short(news, 3)
    order = [take(broker) for _ in range(12)]
    assert Counter(order[:4]) == Counter(order[4:8]) == {str(manuals.tenant_id): 3, str(news.tenant_id): 1}
    assert not broker.llen(DOCUMENTS)
    assert set(Document.objects.values_list("status", flat=True)) == {"ready"}


def test_what_stands_before_one_is_counted_by_weight(
    manuals: Collection, news: Collection, broker: redis_client.Redis
) -> None:
    weigh(manuals.tenant, 3)
    short(manuals, 8)
    own = short(news, 4)
    with tenant_scope(news):
        queue.count_ahead(news.tenant_id, own)
    assert [document.ahead for document in own] == [3, 7, 10, 11]
    weigh(news.tenant, 6)
    with tenant_scope(news):
        queue.count_ahead(news.tenant_id, own)
    assert [document.ahead for document in own] == [1, 2, 4, 5]


def test_who_has_a_worker_lets_those_go_first_who_have_none(
    manuals: Collection, news: Collection, broker: redis_client.Redis
) -> None:
    many = short(manuals, 3)
    broker.rpop(DOCUMENTS)
    hold(many[0])
    [page] = short(news, 1)
    assert take(broker) == str(manuals.tenant_id)  # which goes to the end of the line
    many[1].refresh_from_db()
    assert many[1].status == "queued"
    assert take(broker) == str(news.tenant_id)
    page.refresh_from_db()
    assert page.status == "ready"
    assert take(broker) == str(manuals.tenant_id)
    many[1].refresh_from_db()
    assert many[1].status == "ready"


def test_who_has_less_than_its_weight_lets_nobody_go_first(
    manuals: Collection, news: Collection, broker: redis_client.Redis
) -> None:
    weigh(manuals.tenant, 2)
    many = short(manuals, 3)
    broker.rpop(DOCUMENTS)
    hold(many[0])
    short(news, 1)
    take(broker)
    many[1].refresh_from_db()
    assert many[1].status == "ready"


def test_nobody_waits_twice_for_a_message_that_was_lost(
    manuals: Collection, news: Collection, broker: redis_client.Redis
) -> None:
    short(news, 1)
    broker.delete(DOCUMENTS)
    many = short(manuals, 2)
    broker.delete(DOCUMENTS)
    hold(many[0])
    assert [take(broker), take(broker)] == [str(manuals.tenant_id)] * 2
    many[1].refresh_from_db()
    assert many[1].status == "ready"


# --- A document that is in work ---------------------------------------------------------------------------------------


def test_a_long_document_is_laid_aside_for_somebody_who_waits_and_goes_on_where_it_was(
    manuals: Collection,
    news: Collection,
    broker: redis_client.Redis,
    embeddings: FakeInference,
) -> None:
    embeddings.script(Reply(kind="embedding", held=True), Reply(kind="embedding", first_delay=0.3, always=True))
    other, long = added(manuals.tenant, manuals, b"Another."), added(manuals.tenant, manuals, manual(100))
    hold(other)
    broker.delete(DOCUMENTS)
    with in_thread(lambda: tasks.ingest(str(manuals.tenant_id), str(long.pk))):
        until(lambda: bool(embeddings.requests))
        page = short(news, 1)[0]
        embeddings.release()
    long.refresh_from_db()
    assert (long.status, long.attempts, long.lease_token) == ("queued", 0, None)
    assert 0 < long.progress_done < 100
    kept = embedded(embeddings)
    embeddings.requests.clear()
    embeddings.recover()
    assert take(broker) == str(news.tenant_id)
    page.refresh_from_db()
    assert page.status == "ready"
    assert take(broker) == str(manuals.tenant_id)
    long.refresh_from_db()
    assert long.status == "ready"
    assert len(live_texts(long)) == long.passages
    assert not set(kept) & set(embedded(embeddings)), "what was stored is embedded a second time"


@pytest.mark.parametrize("at_length", [False, True])
def test_a_tenants_only_document_in_work_is_laid_aside_after_its_slice(
    manuals: Collection,
    news: Collection,
    broker: redis_client.Redis,
    monkeypatch: pytest.MonkeyPatch,
    at_length: bool,
) -> None:
    monkeypatch.setattr(embedding, "SLICE", 0.0 if at_length else 600.0)
    long = added(manuals.tenant, manuals, manual(100))
    broker.delete(DOCUMENTS)
    short(news, 1)
    tasks.ingest(str(manuals.tenant_id), str(long.pk))
    long.refresh_from_db()
    assert long.status == ("queued" if at_length else "ready")


def test_a_document_is_embedded_in_one_go_where_nobody_waits(
    manuals: Collection, news: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it give way to whoever has a worker, backs off, or stands in another line."""
    monkeypatch.setattr(embedding, "SLICE", 0.0)
    held, later, large = short(news, 3)
    hold(held)
    soon: Any = timezone.now() + queue.RESEND_AFTER / 2
    Document.objects.filter(pk=later.pk).update(status="retrying", next_attempt_at=soon)
    Document.objects.filter(pk=large.pk).update(size=2**30, next_attempt_at=soon)
    long = added(manuals.tenant, manuals, manual(100))
    tasks.ingest(str(manuals.tenant_id), str(long.pk))
    long.refresh_from_db()
    assert long.status == "ready"
