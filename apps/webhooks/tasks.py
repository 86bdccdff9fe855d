"""Celery's doors to webhooks: what is due, and what is old."""

from __future__ import annotations

from asgiref.sync import async_to_sync
from celery import shared_task

from apps.webhooks import courier, deliveries


@shared_task(name=deliveries.DELIVER_TASK)
def deliver() -> None:
    async_to_sync(courier.run)()


@shared_task(name="webhooks.prune_deliveries")
def prune_deliveries() -> int:
    return deliveries.prune()
