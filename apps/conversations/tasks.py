"""Background work on turns."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import structlog
from celery import shared_task
from django.db.models import QuerySet
from django.utils import timezone

from apps.conversations import attaching, forgetting, recalling, removing, turn
from apps.conversations.models import Turn
from apps.edge.errors import ServiceUnavailable
from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope
from apps.usage import ledger
from apps.usage.models import UsageRecord
from chatbot.events import Source

log = structlog.get_logger(__name__)

# Longer than any process needs to take a turn over: none is there, or each that tried has ended, too.
ABANDONED_AFTER = datetime.timedelta(seconds=300)


@shared_task(name="conversations.close_abandoned_turns")
def close_abandoned_turns() -> int:
    """End turns that no process runs or takes over: they become interrupted, and cost nothing. Returns how many."""
    closed = 0
    for tenant_id, turn_id in lookups.call("turns_orphaned", timezone.now() - ABANDONED_AFTER):
        with tenant_scope(tenant_id):
            closed += _close(Turn.objects.for_tenant(tenant_id).select_related("tenant").get(pk=turn_id))
    # What is reserved still belongs to no turn any more: its conversation was deleted with its assistant or tenant.
    closed += ledger.settle_abandoned(timezone.now() - ABANDONED_AFTER, _open_turns)
    if closed:
        log.warning("turns.abandoned", closed=closed)
    return closed


def _open_turns(tenant_id: uuid.UUID) -> QuerySet[Any]:
    return Turn.objects.for_tenant(tenant_id).filter(state__in=Turn.OPEN).values("pk")


def _close(row: Turn) -> bool:
    outcome = turn.Outcome(
        state=Turn.State.INTERRUPTED,
        bill=UsageRecord.Bill.LOSS,
        text=row.partial,
        sources=[Source(**source) for source in row.sources],
        error=ServiceUnavailable("The process that was answering ended before the answer did. Please ask again."),
        last_seq=row.last_seq,
    )
    return turn.close_turn(
        row.tenant, row.pk, row.epoch, outcome, conversation_id=row.conversation_id, answer_id=uuid.uuid4()
    )


@shared_task(name="conversations.forget_quotations")
def forget_quotations() -> None:
    """Let answers stop quoting documents that were deleted."""
    forgetting.forget_quotations()


@shared_task(name="conversations.forget_unused_attachments")
def forget_unused_attachments() -> int:
    """Delete files that were sent for a question which never came."""
    return attaching.forget_unused()


@shared_task(name="conversations.guard_recall")
def guard_recall(tenant_id: str | None = None) -> None:
    """See to it that searches by HNSW indexes find what is there: a tenant's, or each one's in a task of its own."""
    if tenant_id is None:
        for one in recalling.tenants():
            guard_recall.delay(str(one))
        return
    for _ in recalling.each_layout(uuid.UUID(tenant_id)):
        pass


@shared_task(name="conversations.remove_old")
def remove_old_conversations() -> None:
    """A night's work may be too much for one task: then another one goes on."""
    if not removing.remove_old():
        remove_old_conversations.delay()
