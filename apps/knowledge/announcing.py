"""Tells a tenant's webhooks that a document is ready or has failed, by ids and states: its title and text are fetched
with a key."""

from __future__ import annotations

from functools import partial

from apps.knowledge.models import Document
from apps.webhooks.deliveries import Happened, announce
from apps.webhooks.models import Event


def document_ready(document: Document) -> None:
    """Call it in the transaction that makes its passages the live ones."""
    announce(document.tenant_id, Event.DOCUMENT_READY, partial(_stands, document))


def document_failed(document: Document) -> None:
    """Call it in the transaction that gives it up."""
    announce(document.tenant_id, Event.DOCUMENT_FAILED, partial(_stands, document))


def _stands(document: Document) -> Happened:
    row = Document.objects.for_tenant(document.tenant_id).select_related("collection").get(pk=document.pk)
    return Happened(
        row.collection_id,
        {
            "document": str(row.pk),
            "collection": row.collection.slug,
            "status": row.status,
            "error": row.failure_code or None,
            "pages": row.pages,
            "passages": row.passages,
        },
    )
