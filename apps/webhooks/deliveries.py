"""Writes deliveries: announced with what happened, in its transaction, and pruned when they are old."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from apps.edge import broker
from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope
from apps.webhooks.models import Delivery, Event, Webhook
from chatbot.errors import InvalidRequest

DELIVER_TASK = "webhooks.deliver"
# The beat's next round does what a lost message asked for.
BEAT_SECONDS = 30.0
KEPT = datetime.timedelta(days=30)
PRUNED_AT_ONCE = 10_000  # rows: a few hundred milliseconds


@dataclass(frozen=True, slots=True)
class Happened:
    """What is told of an event. `subject` is the id of the assistant or the collection that it belongs to, if any."""

    subject: uuid.UUID | None
    data: dict[str, Any]


# What keeps an event from a webhook that asked for it.
_RESTRICTED = "AND (w.{column} = '{{}}' OR %(subject)s = ANY (w.{column}))"
_RESTRICTION = {
    Event.TURN_FINISHED: _RESTRICTED.format(column="assistants"),
    Event.DOCUMENT_READY: _RESTRICTED.format(column="collections"),
    Event.DOCUMENT_FAILED: _RESTRICTED.format(column="collections"),
    Event.QUOTA_REACHED: "",
    Event.CONVERSATION_HANDOFF: _RESTRICTED.format(column="assistants"),
}
# KEY SHARE, as the foreign key's own check: whoever deletes a webhook at this moment is waited for, so that the
# transaction which tells does not fail for it.
_ANNOUNCE = """
    INSERT INTO webhooks_delivery
        (id, tenant_id, webhook_id, event, data, status, attempts, next_attempt_at, error, created)
    SELECT gen_random_uuid(), w.tenant_id, w.id, %(event)s, %(data)s, 'pending', 0, %(now)s, '', %(now)s
    FROM webhooks_webhook w
    WHERE w.tenant_id = %(tenant)s AND w.enabled AND %(event)s = ANY (w.events)
      {restriction}
    FOR KEY SHARE
"""
_LISTENS = "SELECT FROM webhooks_webhook WHERE tenant_id = %s AND enabled AND %s = ANY (events) LIMIT 1"
_ANNOUNCE_OF = {event: _ANNOUNCE.format(restriction=condition) for event, condition in _RESTRICTION.items()}


def announce(tenant_id: uuid.UUID, event: Event, tell: Callable[[], Happened]) -> int:
    """Write a delivery for each webhook that wants to know; how many. Call it in the transaction that makes the event
    true.

    Where no webhook listens this costs one statement; `tell` is only called where one does.
    """
    with connection.cursor() as cursor:
        # Plain SQL, as it is asked at the end of every turn.
        cursor.execute(_LISTENS, [tenant_id, str(event)])
        if not cursor.rowcount:
            return 0
    happened = tell()
    values: dict[str, Any] = {
        "tenant": tenant_id,
        "event": str(event),
        "data": connection.ops.adapt_json_value(happened.data, None),
        "subject": happened.subject,
        "now": timezone.now(),
    }
    with connection.cursor() as cursor:
        cursor.execute(_ANNOUNCE_OF[event], values)
        written: int = cursor.rowcount
    if written:
        wake()
    return written


def wake() -> None:
    """Have a worker send what is due, once this transaction commits."""
    # Robust: the rows are committed by then, and whatever happens to a message does not undo that.
    transaction.on_commit(_send, robust=True)


def _send() -> None:
    broker.send(DELIVER_TASK, expires=BEAT_SECONDS)


def write_test(webhook: Webhook, *, lease: datetime.timedelta) -> Delivery:
    """A test event that the caller delivers, within the lease."""
    now = timezone.now()
    data = {"webhook": str(webhook.pk), "name": webhook.name}
    written: Delivery = Delivery.objects.create(
        tenant_id=webhook.tenant_id,
        webhook=webhook,
        event=Event.TEST,
        data=data,
        attempts=1,
        next_attempt_at=now + lease,
    )
    return written


def deliver_again(delivery: Delivery) -> None:
    """Send it once more, with the same id and all its retries. Raises InvalidRequest while its webhook is off."""
    with tenant_scope(delivery):
        webhook = Webhook.objects.for_tenant(delivery.tenant_id).get(pk=delivery.webhook_id)
        if not webhook.enabled:
            raise InvalidRequest("The webhook is off. Switch it on first.")
        Delivery.objects.for_tenant(delivery.tenant_id).filter(pk=delivery.pk).update(
            status=Delivery.Status.PENDING, attempts=0, next_attempt_at=timezone.now(), delivered_at=None
        )
        wake()


def prune() -> int:
    """Delete deliveries that are older than KEPT, a portion at a time; how many."""
    return sum(_prune(tenant_id) for tenant_id in lookups.all_tenants())


def _prune(tenant_id: uuid.UUID) -> int:
    deleted = 0
    while True:
        with tenant_scope(tenant_id):
            rows = Delivery.objects.for_tenant(tenant_id)
            old = rows.filter(created__lt=timezone.now() - KEPT).order_by("-created").values("pk")
            portion = rows.filter(pk__in=old[:PRUNED_AT_ONCE]).order_by()._raw_delete("default")
        deleted += portion
        if portion < PRUNED_AT_ONCE:
            return deleted
