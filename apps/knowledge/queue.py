"""Sends documents to the workers, so that none waits behind another tenant's thousand or another one's thousand pages.

Workers take what was sent in the order in which it was sent. Of each tenant as many documents stand in line as its
weight is, mostly one; when a worker takes one, the tenant's next goes to the end of the line. So tenants take turns.

Who has workers already gives way to those who stand in line and have none: what is taken goes to the end once more, and
a long document is laid aside between two batches.
"""

from __future__ import annotations

import datetime
import math
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from apps.edge import broker
from apps.edge.queues import DOCUMENTS, LARGE_DOCUMENTS
from apps.knowledge import lease
from apps.knowledge.models import Document, DocumentQuerySet
from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope
from apps.usage.shares import Share, share_of

INGEST_TASK = "knowledge.ingest"
GAVE_WAY = "gave_way"  # a message's header: it was at the head of the line before
# A document that no worker has taken by then is sent again, since its message may be lost; well below MOST_AHEAD, since
# clocks differ a little. Messages are forgotten much later, so that they keep their place in line however long it is.
RESEND_AFTER = datetime.timedelta(seconds=60)
FORGET_AFTER = datetime.timedelta(minutes=15)
# A worker that is free takes a document at once: for longer it stands in line only where all are at others.
PATIENCE = datetime.timedelta(seconds=2)

_LOCK = "SELECT pg_advisory_xact_lock(1431519563, hashtext(%s))"


def send_due(tenant_id: uuid.UUID) -> int:
    """Send the documents whose turn it is, the oldest, once this transaction commits."""
    with tenant_scope(tenant_id):
        in_turn(str(tenant_id))
        share = share_of(tenant_id)
        sent = [
            (document_id, queue)
            for queue in (DOCUMENTS, LARGE_DOCUMENTS)
            for document_id in _next(tenant_id, queue, share)
        ]
        if sent:
            # Robust: the rows are committed by then, and whatever happens to a message does not undo that.
            transaction.on_commit(lambda: _send(tenant_id, sent), robust=True)
    return len(sent)


def in_turn(line: str) -> None:
    """Until this transaction ends nobody else sends of the same line: two at once would both find that nothing is
    sent."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [line])


def _next(tenant_id: uuid.UUID, queue: str, share: Share) -> list[uuid.UUID]:
    """Mark the tenant's next documents of this queue as sent; nothing where it is not the tenant's turn."""
    now = timezone.now()
    documents = of_queue(Document.objects.for_tenant(tenant_id), queue)
    room = share.room(documents.sent(now).count(), documents.held().count())
    if not room:
        return []
    due = documents.due(now).select_for_update(skip_locked=True, of=("self",)).order_by("created")
    ids = [document.pk for document in due.only("pk")[:room]]
    documents.filter(pk__in=ids).update(status=Document.Status.QUEUED, next_attempt_at=now + RESEND_AFTER, updated=now)
    return ids


def of_queue(documents: DocumentQuerySet, queue: str) -> DocumentQuerySet:
    return documents.large() if queue == LARGE_DOCUMENTS else documents.small()


def _send(tenant_id: uuid.UUID, sent: Iterable[tuple[uuid.UUID, str]], *, gave_way: bool = False) -> None:
    how: Any = {"expires": FORGET_AFTER.total_seconds(), "headers": {GAVE_WAY: True} if gave_way else None}
    for document_id, queue in sent:
        if not broker.send(INGEST_TASK, str(tenant_id), str(document_id), queue=queue, **how):
            return  # the rows are the truth: resend_documents sends what is missing when the broker is back


def step_back(tenant_id: uuid.UUID, document_id: uuid.UUID) -> bool:
    """Send a document that was just taken to the end of the line, where somebody there comes first.

    Call it once for each that was sent: a message may be lost, and nobody else is to wait for it.
    """
    starving = _without_a_worker(tenant_id)
    if not starving:
        return False
    document = Document.objects.for_tenant(tenant_id).sent(timezone.now()).filter(pk=document_id).first()
    if document is None or not gives_way(document):
        return False
    transaction.on_commit(lambda: _send(tenant_id, [(document_id, queue_of(document))], gave_way=True), robust=True)
    return True


def gives_way(document: Document, *, at_length: bool = False) -> bool:
    """Whether a worker shall leave it to others in its line, who have none while it has its share without this one.
    at_length: it was at it for so long that its share does not matter."""
    tenant_id = document.tenant_id
    if document.is_large not in _without_a_worker(tenant_id):
        return False
    if at_length:
        return True
    rows = of_queue(Document.objects.for_tenant(tenant_id), queue_of(document))
    return bool(rows.held().exclude(pk=document.pk).count() >= share_of(tenant_id).weight)


def _without_a_worker(tenant_id: uuid.UUID) -> set[bool]:
    """In which lines other tenants stand that no worker is at: of large documents, of others."""
    found = lookups.call("tenants_without_a_worker", lease.clock())
    return {large for other, large in found if other != tenant_id}


def left_waiting(beside: Document) -> tuple[uuid.UUID, uuid.UUID] | None:
    """Tenant and id of a document that no worker has taken for PATIENCE, and whose tenant has none for its line: that
    of small ones, or the one that `beside` stood in."""
    now = lease.clock()
    for tenant_id, is_large in lookups.call("tenants_without_a_worker", now):
        if is_large and not beside.is_large:
            continue
        with tenant_scope(tenant_id):
            sent = of_queue(
                Document.objects.for_tenant(tenant_id).sent(now), LARGE_DOCUMENTS if is_large else DOCUMENTS
            )
            waits = sent.filter(next_attempt_at__lte=now + RESEND_AFTER - PATIENCE).order_by("next_attempt_at").first()
        if waits:
            return tenant_id, waits.pk
    return None


def queue_of(document: Document) -> str:
    return LARGE_DOCUMENTS if document.is_large else DOCUMENTS


def count_ahead(tenant_id: uuid.UUID, documents: Sequence[Document]) -> None:
    """Tell each of these documents that is queued how many are taken before it, as `ahead`. Call it in the tenant's
    scope.

    Approximate: before the tenant's fifth, each other tenant of the same weight has five at most; what comes back
    meanwhile is not known.
    """
    others: list[tuple[uuid.UUID, bool, int, int]] | None = None
    for queue in (DOCUMENTS, LARGE_DOCUMENTS):
        large = queue == LARGE_DOCUMENTS
        queued = [one for one in documents if one.status == Document.Status.QUEUED and one.is_large == large]
        if not queued:
            continue
        others = others or lookups.call("documents_in_line", timezone.now())
        waiting = [row[2:] for row in others if row[0] != tenant_id and row[1] == large]  # how many, of which weight
        own, own_weight = _older(tenant_id, queue, queued), share_of(tenant_id).weight
        for document in queued:
            before = own.get(document.pk, 0)
            turns = (before + 1) / own_weight
            document.ahead = before + sum(min(count, math.ceil(turns * weight)) for count, weight in waiting)


def _older(tenant_id: uuid.UUID, queue: str, queued: Sequence[Document]) -> dict[uuid.UUID, int]:
    """How many of the tenant's own in the queue are older, for each of these."""
    rows = Document.objects.for_tenant(tenant_id)
    older = of_queue(rows.unclaimed(), queue).filter(status=Document.Status.QUEUED, created__lt=OuterRef("created"))
    count = Subquery(older.order_by().values("tenant").annotate(count=Count("pk")).values("count"))
    counted = rows.filter(pk__in=[document.pk for document in queued]).annotate(older=Coalesce(count, 0))
    return dict(counted.values_list("pk", "older"))


def tenants_waiting() -> list[uuid.UUID]:
    """Tenants that have documents to send, in no particular order: each takes its turn."""
    return [tenant_id for (tenant_id,) in lookups.call("tenants_with_due_documents", timezone.now())]
