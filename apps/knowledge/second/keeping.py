"""Keeps a collection's second index up with its documents: each new version goes into both.

The one in use comes first: where the second one's model fails or a quota is used up, the document goes live without it,
and the second index is behind until its worker has made up for that (building.py).
"""

from __future__ import annotations

import structlog
from django.db import OperationalError, connection, transaction
from django.db.models import Case, F, Value, When
from django.utils import timezone
from psycopg.errors import LockNotAvailable, QueryCanceled

from apps.edge.errors import ServiceUnavailable
from apps.knowledge import embedding
from apps.knowledge.lease import SupersededError
from apps.knowledge.models import Collection, Document, EmbeddingIndex, SecondIndex
from apps.knowledge.second import lacking, schedule
from apps.tenants.scoping import unit
from apps.usage.ingesting import QuotaUsedUp
from chatbot.errors import ModelError

log = structlog.get_logger(__name__)

State = SecondIndex.State
# Not by the collection's row: a large document takes a minute to go live, and people edit its collection meanwhile.
# Nor would whoever switches get in while one document after the other goes live: here they stand in line.
_GOES_LIVE = "SELECT pg_advisory_xact_lock_shared(1431519564, hashtext(%s))"
_NONE_GOES_LIVE = "SELECT pg_advisory_xact_lock(1431519564, hashtext(%s))"
_KEPT = "SELECT index_id FROM knowledge_collection WHERE tenant_id = %s AND id = %s FOR KEY SHARE"


async def embed(document: Document) -> None:
    """Vectors of the document's next version in the second index, if there is one that can be kept up."""
    index = await unit(_kept_up, document)
    if index is None:
        return
    try:
        await embedding.embed(document, index)
    except (ModelError, QuotaUsedUp) as error:
        log.info("second_index.left_behind", index=str(index.pk), code=error.code)


def _kept_up(document: Document) -> EmbeddingIndex | None:
    rows = SecondIndex.objects.for_tenant(document.tenant_id).filter(collection=document.collection_id)
    second = rows.filter(state__in=[State.BUILDING, State.READY]).select_related("index__endpoint").first()
    return second.index if second else None


def hold_back(collection: Collection) -> None:
    """Until this transaction ends no document of the collection goes live, and each that does so later looks again
    which indexes there are. Call it with the collection's row locked.

    Raises ServiceUnavailable where a large one is about to.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(_NONE_GOES_LIVE, [str(collection.pk)])
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable | QueryCanceled):
            raise
        raise ServiceUnavailable(
            "A large document of this collection goes live right now. Try again in a moment.", retry_after=5
        ) from error


def is_current(document: Document) -> bool:
    """Whether the next version can go live, in the transaction in which it does: it has its vectors in the index that
    is in use. Nobody switches until that commits. A second index without its vectors is behind from then on.

    Raises SupersededError where the collection is gone.
    """
    with connection.cursor() as cursor:
        cursor.execute(_GOES_LIVE, [str(document.collection_id)])
        cursor.execute(_KEPT, [document.tenant_id, document.collection_id])
        row = cursor.fetchone()
    if row is None:
        raise SupersededError
    if row[0] != document.collection.index_id and lacking.pending(document, row[0]):
        return False
    rows = SecondIndex.objects.for_tenant(document.tenant_id).filter(collection=document.collection_id)
    second = rows.exclude(state=State.DROPPING).first()
    if second and lacking.pending(document, second.index_id):
        now = timezone.now()
        # Before the document's row, as its worker does, or the two might wait for each other.
        rows.filter(pk=second.pk).update(
            behind=True,
            state=Case(When(state=State.READY, then=Value(State.BUILDING)), default=F("state")),
            next_slice_at=Case(When(state=State.READY, then=Value(now)), default=F("next_slice_at")),
            updated=now,
        )
        # Later: others who send for the tenant would wait until the last passage of a large document is live.
        transaction.on_commit(lambda: schedule.send_due(document.tenant_id), robust=True)
    return True
