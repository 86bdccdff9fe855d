"""Celery's doors to ingestion: one document, and the beat that lets none be forgotten."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from apps.knowledge import forgetting, queue, uploads, waiting
from apps.knowledge import ingest as documents


@shared_task(name=queue.INGEST_TASK, bind=True)
def ingest(task: Any, tenant_id: str, document_id: str) -> None:
    gave_way = queue.GAVE_WAY in (task.request.headers or {})
    documents.ingest(tenant_id, document_id, in_line=not gave_way)


@shared_task(name="knowledge.resend_documents")
def resend_documents() -> None:
    """Send again what is due: its message was lost, its worker died, its time to back off is over, or its quota is
    free."""
    for tenant_id in waiting.tenants():
        waiting.wake(tenant_id)
    for tenant_id in queue.tenants_waiting():
        queue.send_due(tenant_id)


@shared_task(name="knowledge.forget_deleted")
def forget_deleted() -> None:
    """Delete the bytes of deleted documents whose deletion was cut short, and uploads that nobody goes on with."""
    uploads.forget_expired()
    forgetting.forget_all()
