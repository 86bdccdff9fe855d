"""An attempt to deliver: claimed by one worker, and what came of it, written unless another has taken over."""

from __future__ import annotations

import datetime
import random
import uuid
from typing import Any

import structlog
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone

from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope
from apps.webhooks import metrics
from apps.webhooks.models import Delivery, Event, Webhook
from apps.webhooks.registration import disable
from apps.webhooks.sending import Result

log = structlog.get_logger(__name__)

# Seconds to the next attempt, by how many there were; beyond the last there is none.
BACKOFF = (10, 60, 300, 1_800, 7_200, 18_000, 36_000)
JITTER = 0.2
# Longer than an attempt can take (sending.TOTAL_SECONDS), whatever the worker does besides.
LEASE = datetime.timedelta(seconds=60)
# How many of a webhook's deliveries are on their way at once; one that fails is not pushed.
AT_ONCE, AT_ONCE_FAILING = 4, 1
FAILING_TOO_LONG = datetime.timedelta(days=5)
DISABLED_FOR = {
    "gone": "Its receiver answered 410 Gone.",
    "failing": f"Every attempt of {FAILING_TOO_LONG.days} days had failed.",
}


def waiting(limit: int) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """(tenant, webhook) of those with deliveries that are due, whoever waits longest first."""
    return lookups.call("webhooks_waiting", timezone.now(), limit)


def claim(tenant_id: uuid.UUID, webhook_id: uuid.UUID) -> tuple[Webhook, list[Delivery]] | None:
    """A webhook and some of its due deliveries, now ours; None if there are none."""
    webhook = Webhook.objects.for_tenant(tenant_id).select_related("tenant").filter(pk=webhook_id, enabled=True).first()
    if webhook is None:
        return None
    now = timezone.now()
    room = AT_ONCE_FAILING if webhook.failures else AT_ONCE
    deliveries = Delivery.objects.for_tenant(tenant_id)
    due = deliveries.due(now).filter(webhook=webhook).order_by("next_attempt_at", "created")
    ids = [row.pk for row in due.select_for_update(skip_locked=True, of=("self",)).only("pk")[:room]]
    deliveries.filter(pk__in=ids).update(next_attempt_at=now + LEASE, attempts=F("attempts") + 1)
    claimed = list(deliveries.filter(pk__in=ids).order_by("created"))
    return (webhook, claimed) if claimed else None


def settle(webhook: Webhook, delivery: Delivery, result: Result) -> None:
    """Write what came of an attempt: delivered, tried again later, or failed. Call it as one unit.

    The number of the attempt tells whether it is still ours: a worker that was taken for dead writes nothing.
    """
    with tenant_scope(webhook):
        # The webhook first, as whoever deletes it does. A test says nothing of what it does with events.
        disabled = delivery.event != Event.TEST and _count(webhook, result)
        outcome = _write(delivery, result, last=disabled or delivery.attempts > len(BACKOFF))
    if outcome:
        metrics.DELIVERIES.labels(outcome).inc()
        log.info(
            "delivery.attempted",
            outcome=outcome,
            webhook=str(webhook.pk),
            delivery=str(delivery.pk),
            type=delivery.event,
            attempt=delivery.attempts,
            status=result.status_code,
            ms=round(result.duration_ms),
        )


def _count(webhook: Webhook, result: Result) -> bool:
    """Whether the webhook was disabled for this."""
    rows = Webhook.objects.for_tenant(webhook.tenant_id).filter(pk=webhook.pk)
    if not result.error:
        rows.filter(failures__gt=0).update(failures=0, failing_since=None)
        return False
    now = timezone.now()
    rows.update(failures=F("failures") + 1, failing_since=Coalesce("failing_since", now))
    if result.gone:
        disable(webhook, DISABLED_FOR["gone"])
    elif rows.filter(failing_since__lt=now - FAILING_TOO_LONG).exists():
        disable(webhook, DISABLED_FOR["failing"])
    else:
        return False
    return True


def _write(delivery: Delivery, result: Result, *, last: bool) -> str:
    """The outcome, or nothing where the delivery is no longer ours."""
    now = timezone.now()
    fields: dict[str, Any] = {
        "status_code": result.status_code,
        "error": result.error,
        "duration_ms": round(result.duration_ms, 1),
    }
    if not result.error:
        outcome, fields = "delivered", {**fields, "status": Delivery.Status.DELIVERED, "delivered_at": now}
    elif last or delivery.event == Event.TEST:
        outcome, fields = "failed", {**fields, "status": Delivery.Status.FAILED}
    else:
        outcome, fields = "retrying", {**fields, "next_attempt_at": now + _delay(delivery.attempts)}
    ours = Delivery.objects.for_tenant(delivery.tenant_id).filter(pk=delivery.pk, attempts=delivery.attempts)
    # A webhook that was switched off meanwhile has failed what was on its way; that it arrived is known better.
    return outcome if ours.exclude(status=Delivery.Status.DELIVERED).update(**fields) else ""


def _delay(attempts: int) -> datetime.timedelta:
    seconds = BACKOFF[attempts - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
    return datetime.timedelta(seconds=seconds)
