"""How documents reach the workers: after commit, in fair shares, and again when a message was lost."""

from __future__ import annotations

import base64
import datetime
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
import redis as redis_client
from django.conf import settings as django_settings
from django.db import transaction
from django.utils import timezone

from apps.knowledge import queue, tasks
from apps.knowledge.collections import create_collection
from apps.knowledge.ingest import add_document, ingest
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from tests.environment import Backends


@pytest.fixture
def broker(redis: None) -> Iterator[redis_client.Redis]:
    with redis_client.Redis.from_url(django_settings.CELERY_BROKER_URL) as client:
        yield client


def sent(broker: redis_client.Redis) -> list[tuple[str, str]]:
    """Tenant and document of every message at the broker, oldest first."""
    arguments = []
    for raw in reversed(broker.lrange("celery", 0, -1)):
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


def test_a_tenants_thousand_do_not_stand_before_anothers_one(
    acme: Tenant, globex: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    many = [add(acme, manuals, number) for number in range(queue.TENANT_SHARE + 6)]
    one = add(globex, create_collection(globex, name="Manuals"), 1)
    assert [document for _, document in sent(broker)] == [
        *(str(document.pk) for document in many[: queue.TENANT_SHARE]),
        str(one.pk),
    ]


def test_an_ended_document_lets_the_next_one_go(acme: Tenant, manuals: Collection, broker: redis_client.Redis) -> None:
    many = [add(acme, manuals, number) for number in range(queue.TENANT_SHARE + 2)]
    broker.delete("celery")
    ingest(acme.pk, many[0].pk)
    assert sent(broker) == [(str(acme.pk), str(many[queue.TENANT_SHARE].pk))]


def test_working_through_the_queue_leaves_none_behind(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    for number in range(2 * queue.TENANT_SHARE + 3):
        add(acme, manuals, number)
    while waiting := sent(broker):
        broker.delete("celery")
        for message in waiting:
            tasks.ingest(*message)
    assert set(Document.objects.for_tenant(acme).values_list("status", flat=True)) == {"ready"}


def test_a_lost_message_is_sent_again_but_not_at_once(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    document = add(acme, manuals, 1)
    broker.delete("celery")
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
    broker.delete("celery")
    later(status="embedding", lease_until=timezone.now() + datetime.timedelta(seconds=30))
    tasks.resend_documents()
    assert sent(broker) == []
    later(lease_until=timezone.now())
    tasks.resend_documents()
    assert sent(broker) == [(str(acme.pk), str(document.pk))]


@pytest.mark.parametrize("status", ["ready", "failed"])
def test_what_has_ended_is_not_sent(acme: Tenant, manuals: Collection, broker: redis_client.Redis, status: str) -> None:
    add(acme, manuals, 1)
    broker.delete("celery")
    later(status=status, failure_message="Because.")
    tasks.resend_documents()
    assert sent(broker) == []


def test_backing_off_documents_do_not_use_up_the_share(
    acme: Tenant, manuals: Collection, broker: redis_client.Redis
) -> None:
    for number in range(queue.TENANT_SHARE):
        add(acme, manuals, number)
    Document.objects.update(status="retrying")
    fresh = add(acme, manuals, 99)
    assert sent(broker)[-1] == (str(acme.pk), str(fresh.pk))


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
