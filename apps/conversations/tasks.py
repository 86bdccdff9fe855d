"""Background work on turns."""

from __future__ import annotations

import datetime
import uuid

import structlog
from celery import shared_task
from django.db import transaction
from django.utils import timezone

from apps.conversations import turn
from apps.conversations.models import Turn
from apps.edge.errors import ServiceUnavailable
from apps.usage import ledger
from apps.usage.models import UsageRecord

log = structlog.get_logger(__name__)

# Longer than any turn can last (180 s in all, FAULTS "Budgets") and than its runner tries to save it (60 s).
ABANDONED_AFTER = datetime.timedelta(seconds=300)


@shared_task(name="conversations.close_abandoned_turns")
def close_abandoned_turns() -> int:
    """End turns whose process died: they become interrupted, and cost nothing. Returns how many."""
    open_too_long = Turn.objects.filter(state__in=Turn.OPEN, created__lt=timezone.now() - ABANDONED_AFTER)
    closed = 0
    for row in open_too_long.select_related("tenant")[:1000]:
        outcome = turn.Outcome(
            state=Turn.State.INTERRUPTED,
            bill=UsageRecord.Bill.LOSS,
            error=ServiceUnavailable("The process that was answering ended before the answer did. Please ask again."),
            last_seq=row.last_seq,
        )
        with transaction.atomic():
            closed += turn.close_turn(
                row.tenant,
                row.pk,
                row.epoch,
                outcome,
                conversation_id=row.conversation_id,
                answer_id=uuid.uuid4(),
            )
    # What is reserved still belongs to no turn any more: its conversation was deleted with its assistant or tenant.
    closed += ledger.settle_abandoned(timezone.now() - ABANDONED_AFTER)
    if closed:
        log.warning("turns.abandoned", closed=closed)
    return closed
