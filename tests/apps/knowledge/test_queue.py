"""How documents reach the workers: after commit, in fair shares, and again when a message was lost."""

from __future__ import annotations

import base64
import datetime
import os
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
import redis as redis_client
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings
from django.db import connections, transaction
from django.utils import timezone

from apps.edge.queues import DOCUMENTS, LARGE_DOCUMENTS
from apps.knowledge import lease, queue, tasks
from apps.knowledge.collections import create_collection
from apps.knowledge.ingest import add_document
from apps.knowledge.models import LARGE_BYTES, MOST_AHEAD, Collection, Document
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope, unit
from apps.usage.limit_models import DOCUMENTS_AT_ONCE
from tests.environment import Backends
from tests.factories import make_tenant


@pytest.fixture
def broker(redis: None) -> Iterator[redis_client.Redis]:
    with redis_client.Redis.from_url(django_settings.CELERY_BROKER_URL) as client:
        yield client


def sent(broker: redis_client.Redis, name: str = DOCUMENTS) -> list[tuple[str, str]]:
    """Tenant and document of every message in this queue, oldest first."""
    arguments = []
    for raw in reversed(broker.lrange(name, 0, -1)):
        message = orjson.loads(raw)
        assert message["headers"]["task"] == "knowledge.ingest"
        (tenant, document), _, _ = orjson.loads(base64.b64decode(message["body"]))
        arguments.append((tenant, document))
    return arguments


def add(tenant: Tenant, collection: Collection, number: int) -> Document:
    return add_document(tenant, collection, name=f"{number}.md", content=f"Text number {number}.".encode())[0]


def later(**fields: Any) -> None:
    """Let time pass for every document."""
    Document.objects.update(next_attempt_at=timezone.now() - datetime.timedelta(seconds=1), **fields)


@contextmanager
def hanging(servers: Backends) -> Iterator[None]:
    os.kill(servers.redis.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(servers.redis.pid, signal.SIGCONT)


def test_a_document_is_sent_once_its_row_is_committed(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    with transaction.atomic():
        document = add(acme, manuals, 1)
        assert sent(broker) == []
    assert sent(broker) == [(str(acme.pk), str(document.pk))]


def test_a_rolled_back_document_is_not_sent(acme: Tenant, manuals: Collection, broker: redis_client.Redis) -> None:
    with transaction.atomic():
        add(acme, manuals, 1)
        transaction.set_rollback(True)
    assert sent(broker) == []
    assert not Document.objects.exists()


def taken(broker: redis_client.Redis, most: int = 1000) -> list[str]:
    """The tenants whose documents one worker takes, in this order, until no message is left."""
    order: list[str] = []
    while len(order) < most and (raw := broker.rpop(DOCUMENTS)):
        (tenant, document), _, _ = orjson.loads(base64.b64decode(orjson.loads(raw)["body"]))
        tasks.ingest(tenant, document)
        order.append(tenant)
    return order


def flood(tenant: Tenant, collection: Collection, documents: int) -> None:
    """Documents that a worker has done with at once: their bytes are gone."""
    Document.objects.bulk_create(
        Document(
            tenant=tenant,
            collection=collection,
            title=f"{n}",
            media_type="text/plain",
            size=1,
            sha256=f"{n}",
            stored="-",
        )
        for n in range(documents)
    )
    with tenant_scope(tenant):
        queue.send_due(tenant.pk)


def test_a_tenants_thousand_delay_nobodys_one_by_more_than_one(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    flood(acme, manuals, 1000)
    others = [make_tenant(f"other-{number}") for number in range(19)]
    for other in others:
        add(other, create_collection(other, name="Manuals"), 1)
    order = taken(broker, len(others) + 2)
    assert order == [str(acme.pk), *(str(other.pk) for other in others), str(acme.pk)]
    assert set(Document.objects.exclude(tenant=acme).values_list("status", flat=True)) == {"ready"}


def test_tenants_with_many_take_turns(
    acme: Tenant, globex: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    flood(acme, manuals, 6)
    flood(globex, create_collection(globex, name="Manuals"), 3)
    order = taken(broker)
    assert order == [str(acme.pk), str(globex.pk)] * 3 + [str(acme.pk)] * 3


def test_a_document_that_is_taken_lets_the_next_one_go(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    """Up to the tenant's share: other workers are for others."""
    many = [add(acme, manuals, number) for number in range(DOCUMENTS_AT_ONCE + 2)]
    for document in many[:DOCUMENTS_AT_ONCE]:
        async_to_sync(unit)(lease.claim, acme.pk, document.pk)
        queue.send_due(acme.pk)
    assert [document for _, document in sent(broker)] == [str(document.pk) for document in many[:DOCUMENTS_AT_ONCE]]
    Document.objects.filter(pk=many[0].pk).update(status="ready")
    queue.send_due(acme.pk)
    assert sent(broker)[-1] == (str(acme.pk), str(many[DOCUMENTS_AT_ONCE].pk))


def test_a_large_file_stands_before_no_small_one(acme: Tenant, manuals: Collection, broker: redis_client.Redis) -> None:
    large = [add_document(acme, manuals, name=f"{n}.md", content=b"%d" % n * (LARGE_BYTES + 1))[0] for n in range(3)]
    small = add(acme, manuals, 1)
    assert sent(broker, LARGE_DOCUMENTS) == [(str(acme.pk), str(large[0].pk))]
    assert sent(broker) == [(str(acme.pk), str(small.pk))]


def test_what_sends_at_once_sends_one(acme: Tenant, manuals: Collection, broker: redis_client.Redis) -> None:
    flood(acme, manuals, 8)
    for round_ in range(5):
        later(status="queued")
        broker.delete(DOCUMENTS)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(send_and_close, [acme.pk] * 4))
        assert len(sent(broker)) == 1, round_


def send_and_close(tenant_id: uuid.UUID) -> None:
    try:
        queue.send_due(tenant_id)
    finally:
        connections.close_all()


def test_working_through_the_queue_leaves_none_behind(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    for number in range(2 * DOCUMENTS_AT_ONCE + 3):
        add(acme, manuals, number)
    assert len(taken(broker)) == 2 * DOCUMENTS_AT_ONCE + 3
    assert set(Document.objects.for_tenant(acme).values_list("status", flat=True)) == {"ready"}


def test_a_lost_message_is_sent_again_but_not_at_once(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    document = add(acme, manuals, 1)
    broker.delete(DOCUMENTS)
    tasks.resend_documents()
    assert sent(broker) == []
    later()
    tasks.resend_documents()
    tasks.resend_documents()
    assert sent(broker) == [(str(acme.pk), str(document.pk))]


def test_what_a_worker_holds_is_not_sent_and_what_a_dead_one_held_is(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    document = add(acme, manuals, 1)
    broker.delete(DOCUMENTS)
    later(status="embedding", lease_until=timezone.now() + datetime.timedelta(seconds=30))
    tasks.resend_documents()
    assert sent(broker) == []
    later(lease_until=timezone.now())
    tasks.resend_documents()
    assert sent(broker) == [(str(acme.pk), str(document.pk))]


def test_a_fast_clock_does_not_end_a_workers_hold(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = add(acme, manuals, 1)
    broker.delete(DOCUMENTS)
    with tenant_scope(acme):
        held = lease.claim(acme.pk, document.pk)
        assert held
        lease.write(held, status="extracting")
    later()
    now = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() + datetime.timedelta(minutes=10))
    assert (queue.send_due(acme.pk), sent(broker)) == (0, [])
    document.refresh_from_db()
    assert document.status == "extracting"
    with tenant_scope(acme):
        assert Document.objects.for_tenant(acme).held().count() == 1


@pytest.mark.parametrize("status", ["ready", "failed"])
def test_what_has_ended_is_not_sent(acme: Tenant, manuals: Collection, broker: redis_client.Redis, status: str) -> None:
    add(acme, manuals, 1)
    broker.delete(DOCUMENTS)
    later(status=status, failure_message="Because.")
    tasks.resend_documents()
    assert sent(broker) == []


def test_backing_off_documents_do_not_use_up_the_share(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    for number in range(DOCUMENTS_AT_ONCE):
        add(acme, manuals, number)
    soon = timezone.now() + datetime.timedelta(seconds=60)
    Document.objects.update(status="retrying", next_attempt_at=soon)
    fresh = add(acme, manuals, 99)
    assert sent(broker)[-1] == (str(acme.pk), str(fresh.pk))


@pytest.mark.parametrize("ahead", [MOST_AHEAD / 2, datetime.timedelta(minutes=10)])
def test_a_fast_clock_stops_nobodys_line(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis, ahead: datetime.timedelta
) -> None:
    """Whoever queued the first document is ahead of everybody else, and its message is lost."""
    first, second = add(acme, manuals, 1), add(acme, manuals, 2)
    broker.delete(DOCUMENTS)
    Document.objects.filter(pk=first.pk).update(next_attempt_at=timezone.now() + ahead)
    tasks.resend_documents()
    if ahead < MOST_AHEAD:
        assert sent(broker) == []  # as of one that was just sent
        return
    assert sent(broker) == [(str(acme.pk), str(first.pk))]
    tasks.resend_documents()
    assert len(taken(broker)) == 2
    assert set(Document.objects.filter(pk__in=[first.pk, second.pk]).values_list("status", flat=True)) == {"ready"}


def test_a_tenant_whose_only_document_a_fast_clock_queued_is_found(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    document = add(acme, manuals, 1)
    broker.delete(DOCUMENTS)
    hour = timezone.now() + datetime.timedelta(hours=1)
    Document.objects.update(next_attempt_at=hour)
    assert queue.tenants_waiting() == [acme.pk]
    tasks.resend_documents()
    assert sent(broker) == [(str(acme.pk), str(document.pk))]
    assert queue.tenants_waiting() == []  # its time is ours now
    Document.objects.update(status="retrying", next_attempt_at=hour)
    assert queue.tenants_waiting() == []


@pytest.mark.parametrize("status", ["retrying", "waiting"])
def test_copies_of_a_message_do_not_end_a_pause(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis, status: str
) -> None:
    """In a long line a document is sent every minute, and its copies live for a quarter of an hour."""
    document = add(acme, manuals, 1)
    for _ in range(2):
        later()
        tasks.resend_documents()
    soon = timezone.now() + datetime.timedelta(seconds=60)
    Document.objects.update(status=status, attempts=1, next_attempt_at=soon)
    assert len(taken(broker)) == 3
    document.refresh_from_db()
    assert (document.status, document.attempts) == (status, 1)
    later()
    tasks.resend_documents()
    assert len(taken(broker)) == 1
    document.refresh_from_db()
    assert document.status == "ready"


def test_a_hanging_broker_refuses_no_document(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis, servers: Backends
) -> None:
    with hanging(servers):
        document = add(acme, manuals, 1)
    assert document.status == "queued"
    later()
    tasks.resend_documents()
    # More than once is possible: what was written before the time was out may arrive after all.
    assert set(sent(broker)) == {(str(acme.pk), str(document.pk))}
