"""Sends slices of the work on second indexes to the workers, in line with documents: one of a tenant at a time."""

from __future__ import annotations

import uuid

from django.db import transaction
from django.utils import timezone

from apps.edge import broker
from apps.knowledge.models import SecondIndex
from apps.knowledge.queue import FORGET_AFTER, RESEND_AFTER
from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope

SLICE_TASK = "knowledge.build_index"


def send_due(tenant_id: uuid.UUID) -> bool:
    """Send the slice that waits longest of the tenant's, once this transaction commits, unless one is in line or with
    a worker. What was sent and did not arrive goes first."""
    now = timezone.now()
    rows = SecondIndex.objects.for_tenant(tenant_id)
    with tenant_scope(tenant_id):
        if rows.unfinished().filter(lease_until__gte=now).exists() or rows.sent(now).exists():
            return False
        due = rows.due(now).select_for_update(skip_locked=True, of=("self",)).order_by("-is_sent", "next_slice_at")
        second = due.only("pk", "slices").first()
        if second is None:
            return False
        rows.filter(pk=second.pk).update(is_sent=True, next_slice_at=now + RESEND_AFTER, updated=now)
        transaction.on_commit(lambda: _send(tenant_id, second), robust=True)
    return True


def _send(tenant_id: uuid.UUID, second: SecondIndex) -> None:
    # Should the broker not take it, the row is the truth: resume_indexes sends what is missing.
    broker.send(SLICE_TASK, str(tenant_id), str(second.pk), second.slices, expires=FORGET_AFTER.total_seconds())


def tenants_waiting() -> list[uuid.UUID]:
    """Those that have slices to send, in no particular order."""
    return [tenant_id for (tenant_id,) in lookups.call("tenants_with_due_indexes", timezone.now())]
