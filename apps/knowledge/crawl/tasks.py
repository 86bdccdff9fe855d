"""Celery's doors to the runs of sources: one slice, and the beat that begins runs and lets none be forgotten."""

from __future__ import annotations

import uuid

from asgiref.sync import async_to_sync
from celery import shared_task

from apps.knowledge.crawl import running, schedule


@shared_task(name=schedule.SLICE_TASK)
def run_source(tenant_id: str, run_id: str, number: int) -> None:
    async_to_sync(running.run_slice)(uuid.UUID(tenant_id), uuid.UUID(run_id), number)


@shared_task(name="knowledge.resume_sources")
def resume_sources() -> None:
    """Begin what is due, and send again what nobody has: its message was lost, its worker died, its host was busy."""
    for tenant_id in schedule.tenants_waiting():
        schedule.begin_due(tenant_id)
        schedule.send_due(tenant_id)
