"""Sends documents to the workers, each tenant a few at a time, so that none of them waits behind another's thousand."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence

from django.db import transaction
from django.utils import timezone

from apps.edge import broker
from apps.knowledge.models import Document
from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope

INGEST_TASK = "knowledge.ingest"
# Documents of one tenant that are with the workers at a time. More would only wait there, ahead of other tenants.
TENANT_SHARE = 4
# A document that no worker has claimed by then is sent again; its first message expires, so that none pile up.
RESEND_AFTER = datetime.timedelta(seconds=60)


def send_due(tenant_id: uuid.UUID) -> int:
    """Send the tenant's longest waiting documents once this transaction commits, as many as its share has room for."""
    now = timezone.now()
    documents = Document.objects.for_tenant(tenant_id)
    with tenant_scope(tenant_id):
        room = TENANT_SHARE - documents.in_flight(now).count()
        if room <= 0:
            return 0
        due = documents.due(now).select_for_update(skip_locked=True, of=("self",)).order_by("next_attempt_at")[:room]
        ids = [document.pk for document in due.only("pk")]
        documents.filter(pk__in=ids).update(
            status=Document.Status.QUEUED, next_attempt_at=now + RESEND_AFTER, updated=now
        )
        if ids:
            # Robust: the rows are committed by then, and whatever happens to a message does not undo that.
            transaction.on_commit(lambda: _send(tenant_id, ids), robust=True)
    return len(ids)


def _send(tenant_id: uuid.UUID, ids: Sequence[uuid.UUID]) -> None:
    for document_id in ids:
        if not broker.send(INGEST_TASK, str(tenant_id), str(document_id), expires=RESEND_AFTER.total_seconds()):
            return  # the rows are the truth: resend_documents sends what is missing when the broker is back


def tenants_waiting() -> list[uuid.UUID]:
    """Tenants that have documents to send, in no particular order: each gets its own share."""
    return [tenant_id for (tenant_id,) in lookups.call("tenants_with_due_documents", timezone.now())]
