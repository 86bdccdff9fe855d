"""Celery's doors to webhooks: what is due, and what is old."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from celery import shared_task

from apps.webhooks import courier, deliveries, operators


@shared_task(name=deliveries.DELIVER_TASK)
def deliver() -> None:
    async_to_sync(courier.run)()


@shared_task(name="webhooks.prune_deliveries")
def prune_deliveries() -> int:
    return deliveries.prune()


@shared_task(name=operators.TELL_TASK, bind=True, max_retries=len(operators.BACKOFF))
def tell_operators(self: Any, message_id: str, body: str) -> None:
    """Each attempt is a task of its own, so that a receiver that hangs holds a worker up for seconds only."""
    seconds = async_to_sync(operators.deliver)(message_id, body, attempt=self.request.retries)
    if seconds is not None:
        raise self.retry(countdown=seconds)
