"""What is announced is delivered: in the transaction that made it true, once, and after a worker's death."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from typing import Any

import pytest
from celery import Celery
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.edge import broker
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit, tenant_scope, unit
from apps.webhooks import attempts, courier, deliveries, registration
from apps.webhooks.models import Delivery, Event, Webhook
from apps.webhooks.sending import Result
from chatbot.errors import InvalidRequest
from tests.apps.webhooks.conftest import make_due, make_webhook, only_delivery, tell, told
from tests.apps.webhooks.receiver import Receiver
from tests.factories import make_assistant, make_collection


def count(tenant: Tenant) -> int:
    return int(Delivery.objects.for_tenant(tenant).count())


def test_each_webhook_that_listens_gets_one(acme: Tenant, globex: Tenant) -> None:
    for fields in (
        {},
        {"events": [Event.DOCUMENT_READY, Event.TURN_FINISHED]},
        {"events": [Event.DOCUMENT_READY]},
        {"enabled": False},
    ):
        make_webhook(acme, **fields)
    make_webhook(globex)
    tell(acme)
    assert (count(acme), count(globex)) == (2, 0)


def test_a_restriction_is_kept_when_what_it_names_is_deleted(acme: Tenant) -> None:
    one, other = (make_assistant(tenant=acme) for _ in range(2))
    collection = make_collection(tenant=acme)
    make_webhook(acme, assistants=[one.pk], collections=[collection.pk], events=[Event.TURN_FINISHED])
    tell(acme, subject=other.pk)
    assert count(acme) == 0
    tell(acme, subject=one.pk)
    assert count(acme) == 1
    one.delete()
    tell(acme, subject=other.pk)
    assert count(acme) == 1


def test_what_is_rolled_back_is_not_announced(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(broker, "send", lambda task, **_: sent.append(task))
    make_webhook(acme)

    def close() -> None:
        with transaction.atomic():
            tell(acme)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        close()
    assert (count(acme), sent) == (0, [])
    tell(acme)
    assert (count(acme), sent) == (1, ["webhooks.deliver"])


def test_without_webhooks_it_costs_one_statement(acme: Tenant, globex: Tenant) -> None:
    make_webhook(globex)

    def never() -> Any:
        raise AssertionError("nobody listens")

    with tenant_scope(acme), CaptureQueriesContext(connection) as seen:
        deliveries.announce(acme.pk, Event.TURN_FINISHED, never)
    statements = [query["sql"] for query in seen.captured_queries if query["sql"].startswith(("SELECT", "INSERT"))]
    assert len(statements) == 1


def test_a_broker_that_is_gone_loses_nothing(
    acme: Tenant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_webhook(acme)
    monkeypatch.setattr(broker, "_sender", Celery(broker="redis://127.0.0.1:9/0", set_as_current=False))
    tell(acme)
    assert count(acme) == 1
    assert "task.not_sent" in caplog.text


async def test_two_couriers_deliver_once(acme: Tenant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the lock that keeps them apart: the claims decide.
    async def always() -> bool:
        return True

    monkeypatch.setattr(courier, "_begin", always)
    await platform_unit(make_webhook, acme, receiver.url())
    for _ in range(12):
        await told(acme)
    await asyncio.gather(*(courier.run() for _ in range(4)))
    assert len(receiver.requests) == 12
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 12


async def test_one_courier_is_at_work_at_a_time(acme: Tenant, receiver: Receiver) -> None:
    await platform_unit(make_webhook, acme, receiver.url())
    await told(acme)
    assert await courier._begin()
    await courier.run()
    assert receiver.requests == []
    await courier._end()
    await courier.run()
    assert len(receiver.requests) == 1


async def test_a_dead_workers_delivery_is_made_by_another(acme: Tenant, receiver: Receiver) -> None:
    webhook = await platform_unit(make_webhook, acme, receiver.url())
    await told(acme)
    claimed = await unit(attempts.claim, acme.pk, webhook.pk)
    assert claimed is not None  # and dies
    await courier.run()
    assert receiver.requests == []
    await make_due(acme)
    await courier.run()
    delivery = await only_delivery(acme)
    assert (delivery.status, delivery.attempts, len(receiver.requests)) == ("delivered", 2, 1)


async def test_a_worker_that_was_taken_for_dead_writes_nothing(acme: Tenant, receiver: Receiver) -> None:
    webhook = await platform_unit(make_webhook, acme, receiver.url())
    await told(acme)
    _, (first,) = await unit(attempts.claim, acme.pk, webhook.pk)  # type: ignore[misc]
    await make_due(acme)
    await unit(attempts.claim, acme.pk, webhook.pk)
    await platform_unit(attempts.settle, webhook, first, Result(1.0, 500, "It answered 500."))
    delivery = await only_delivery(acme)
    assert (delivery.attempts, delivery.error) == (2, "")


async def test_a_long_queue_does_not_hide_a_short_one(acme: Tenant, globex: Tenant) -> None:
    await platform_unit(make_webhook, acme)
    for _ in range(30):
        await told(acme)
    await platform_unit(make_webhook, globex)
    await told(globex)
    assert [tenant for tenant, _ in await platform_unit(attempts.waiting, 2)] == [acme.pk, globex.pk]


async def test_a_webhook_that_cannot_be_read_stops_no_other(
    acme: Tenant, globex: Tenant, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[str] = []
    broken = await platform_unit(make_webhook, acme)
    await platform_unit(make_webhook, globex, receiver.url())
    for tenant in (acme, globex):
        await told(tenant)
    monkeypatch.setattr(broker, "send", lambda task, **_: sent.append(task))

    def lose_its_key() -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE webhooks_webhook SET secret = 'lost' WHERE id = %s", [broken.pk])

    await platform_unit(lose_its_key)
    await courier.run()
    assert len(receiver.requests) == 1
    assert caplog.text.count("webhook.not_served") == 1
    assert sent == [], "it would be tried without a pause"


async def test_nothing_leaves_a_suspended_tenant(acme: Tenant, receiver: Receiver) -> None:
    await platform_unit(make_webhook, acme, receiver.url())
    await told(acme)
    await platform_unit(lambda: Tenant.objects.filter(pk=acme.pk).update(is_active=False))
    await courier.run()
    assert receiver.requests == []


async def test_deliver_again_repeats_the_same_message(acme: Tenant, receiver: Receiver) -> None:
    webhook = await platform_unit(make_webhook, acme, receiver.url())
    await told(acme)
    await courier.run()
    await platform_unit(deliveries.deliver_again, await only_delivery(acme))
    await courier.run()
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    await platform_unit(registration.change, webhook, enabled=False)
    with pytest.raises(InvalidRequest):
        await platform_unit(deliveries.deliver_again, await only_delivery(acme))


def test_old_deliveries_are_pruned(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "PRUNED_AT_ONCE", 2)
    make_webhook(acme)
    for _ in range(6):
        tell(acme)
    old = Delivery.objects.for_tenant(acme).values("pk")[:5]
    Delivery.objects.filter(pk__in=old).update(created=timezone.now() - deliveries.KEPT - datetime.timedelta(days=1))
    assert deliveries.prune() == 5
    assert count(acme) == 1


def test_deleting_a_webhook_takes_its_log_along(acme: Tenant) -> None:
    webhook, other = make_webhook(acme), make_webhook(acme)
    tell(acme)
    registration.delete(webhook)
    assert list(Webhook.objects.for_tenant(acme)) == [other]
    assert count(acme) == 1
    tell(acme)
    assert count(acme) == 2


@pytest.mark.parametrize("kind", ["assistants", "collections"])
def test_only_own_objects_are_accepted(acme: Tenant, globex: Tenant, kind: str) -> None:
    make = make_assistant if kind == "assistants" else make_collection
    own, foreign = make(tenant=acme), make(tenant=globex)

    def restricted(*ids: uuid.UUID) -> dict[str, Any]:
        return {kind: ids}

    refused = []
    for stranger in (foreign.pk, uuid.uuid4()):
        with pytest.raises(InvalidRequest) as raised:
            make_webhook(acme, **restricted(own.pk, stranger))
        refused.append((raised.value.message, raised.value.fields))
        webhook = make_webhook(acme, **restricted(own.pk))
        with pytest.raises(InvalidRequest):
            registration.change(webhook, **restricted(stranger))
    assert refused[0] == refused[1]


def test_there_is_a_limit_to_webhooks(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "MOST_WEBHOOKS", 2)
    make_webhook(acme)
    make_webhook(acme)
    with pytest.raises(InvalidRequest):
        make_webhook(acme)
