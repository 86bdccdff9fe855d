"""Celery's doors to ingestion: one document, and the beat that lets none be forgotten."""

from __future__ import annotations

from celery import shared_task

from apps.knowledge import forgetting, queue, uploads, waiting
from apps.knowledge import ingest as documents


@shared_task(name=queue.INGEST_TASK)
def ingest(tenant_id: str, document_id: str) -> None:
    documents.ingest(tenant_id, document_id)


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
