"""Celery's doors to second indexes: one slice, and the beat that lets none be forgotten."""

from __future__ import annotations

import uuid

from asgiref.sync import async_to_sync
from celery import shared_task

from apps.knowledge.second import building, schedule


@shared_task(name=schedule.SLICE_TASK)
def build_index(tenant_id: str, second_id: str, number: int) -> None:
    async_to_sync(building.run_slice)(uuid.UUID(tenant_id), uuid.UUID(second_id), number)


@shared_task(name="knowledge.resume_indexes")
def resume_indexes() -> None:
    """Send what nobody has: its message was lost, its worker died, its time to back off is over."""
    for tenant_id in schedule.tenants_waiting():
        schedule.send_due(tenant_id)
