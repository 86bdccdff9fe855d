"""Sends documents to the workers, so that none waits behind another tenant's thousand or another one's thousand pages.

Workers take what was sent in the order in which it was sent. Of each tenant one document is there to be taken; when a
worker takes it, the tenant's next one goes to the end of the line. So tenants take turns, a document each.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence

from django.db import connection, transaction
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from apps.edge import broker
from apps.edge.queues import DOCUMENTS, LARGE_DOCUMENTS
from apps.knowledge.models import Document, DocumentQuerySet
from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope

INGEST_TASK = "knowledge.ingest"
# Documents of one tenant that are with the workers at a time, in each queue. A flood leaves the other workers free.
TENANT_SHARE = 4
# A document that no worker has taken by then is sent again, since its message may be lost; well below MOST_AHEAD, since
# clocks differ a little. Messages are forgotten much later, so that they keep their place in line however long it is.
RESEND_AFTER = datetime.timedelta(seconds=60)
FORGET_AFTER = datetime.timedelta(minutes=15)

_LOCK = "SELECT pg_advisory_xact_lock(1431519563, hashtext(%s))"


def send_due(tenant_id: uuid.UUID) -> int:
    """Send the documents whose turn it is, the oldest, once this transaction commits: one in each queue at most."""
    with tenant_scope(tenant_id):
        _in_turn(tenant_id)
        sent = [
            (document_id, queue) for queue in (DOCUMENTS, LARGE_DOCUMENTS) for document_id in _next(tenant_id, queue)
        ]
        if sent:
            # Robust: the rows are committed by then, and whatever happens to a message does not undo that.
            transaction.on_commit(lambda: _send(tenant_id, sent), robust=True)
    return len(sent)


def _in_turn(tenant_id: uuid.UUID) -> None:
    """Two at once would both find that nothing is sent."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [str(tenant_id)])


def _next(tenant_id: uuid.UUID, queue: str) -> list[uuid.UUID]:
    """Mark the tenant's next document of this queue as sent; nothing where it is not the tenant's turn."""
    now = timezone.now()
    documents = of_queue(Document.objects.for_tenant(tenant_id), queue)
    if documents.sent(now).exists() or documents.held(now).count() >= TENANT_SHARE:
        return []
    due = documents.due(now).select_for_update(skip_locked=True, of=("self",)).order_by("created")
    ids = [document.pk for document in due.only("pk")[:1]]
    documents.filter(pk__in=ids).update(status=Document.Status.QUEUED, next_attempt_at=now + RESEND_AFTER, updated=now)
    return ids


def of_queue(documents: DocumentQuerySet, queue: str) -> DocumentQuerySet:
    return documents.large() if queue == LARGE_DOCUMENTS else documents.small()


def _send(tenant_id: uuid.UUID, sent: Iterable[tuple[uuid.UUID, str]]) -> None:
    expires = FORGET_AFTER.total_seconds()
    for document_id, queue in sent:
        if not broker.send(INGEST_TASK, str(tenant_id), str(document_id), expires=expires, queue=queue):
            return  # the rows are the truth: resend_documents sends what is missing when the broker is back


def count_ahead(tenant_id: uuid.UUID, documents: Sequence[Document]) -> None:
    """Tell each of these documents that is queued how many are taken before it, as `ahead`. Call it in the tenant's
    scope.

    Approximate: before the tenant's fifth, each other tenant has five at most; what comes back meanwhile is not known.
    """
    now = timezone.now()
    others: list[tuple[uuid.UUID, bool, int]] | None = None
    for queue in (DOCUMENTS, LARGE_DOCUMENTS):
        large = queue == LARGE_DOCUMENTS
        queued = [one for one in documents if one.status == Document.Status.QUEUED and one.is_large == large]
        if not queued:
            continue
        others = others or lookups.call("queued_documents", now)
        waiting = [count for other, of_large, count in others if other != tenant_id and of_large == large]
        own = _older(tenant_id, queue, queued, now)
        for document in queued:
            before = own.get(document.pk, 0)
            document.ahead = before + sum(min(count, before + 1) for count in waiting)


def _older(
    tenant_id: uuid.UUID, queue: str, queued: Sequence[Document], now: datetime.datetime
) -> dict[uuid.UUID, int]:
    """How many of the tenant's own in the queue are older, for each of these."""
    rows = Document.objects.for_tenant(tenant_id)
    older = of_queue(rows.unclaimed(now), queue).filter(status=Document.Status.QUEUED, created__lt=OuterRef("created"))
    count = Subquery(older.order_by().values("tenant").annotate(count=Count("pk")).values("count"))
    counted = rows.filter(pk__in=[document.pk for document in queued]).annotate(older=Coalesce(count, 0))
    return dict(counted.values_list("pk", "older"))


def tenants_waiting() -> list[uuid.UUID]:
    """Tenants that have documents to send, in no particular order: each takes its turn."""
    return [tenant_id for (tenant_id,) in lookups.call("tenants_with_due_documents", timezone.now())]
