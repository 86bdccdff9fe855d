"""Sends slices of work to the workers, in line with documents: one of a tenant at a time, so that nobody's work keeps
the workers from others."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from apps.edge import broker
from apps.knowledge import lease
from apps.knowledge.queue import FORGET_AFTER, RESEND_AFTER, in_turn
from apps.knowledge.slice_models import S
from apps.tenants.scoping import tenant_scope


def send_due(rows: type[S], task: str, tenant_id: uuid.UUID) -> bool:
    """Send the slice that waits longest of the tenant's, once this transaction commits, unless one is in line or with
    a worker. What was sent and did not arrive goes first."""
    now = timezone.now()
    of_tenant: Any = rows.objects.for_tenant(tenant_id)
    with tenant_scope(tenant_id):
        in_turn(f"{task} {tenant_id}")
        if of_tenant.held().exists() or of_tenant.sent(now).exists():
            return False
        due = of_tenant.due(now).select_for_update(skip_locked=True, of=("self",)).order_by("-is_sent", "next_slice_at")
        row = due.only("pk", "slices").first()
        if row is None:
            return False
        of_tenant.filter(pk=row.pk).update(is_sent=True, next_slice_at=now + RESEND_AFTER, updated=now)
        transaction.on_commit(lambda: _send(task, tenant_id, row), robust=True)
    return True


def _send(task: str, tenant_id: uuid.UUID, row: S) -> None:
    # Should the broker not take it, the row is the truth: the beat sends what is missing.
    broker.send(task, str(tenant_id), str(row.pk), row.slices, expires=FORGET_AFTER.total_seconds())


def claim(rows: type[S], tenant_id: uuid.UUID, pk: uuid.UUID, number: int, *with_it: str) -> S | None:
    """The row, now ours, with the rows that it names; None if nothing is left to do, it is gone or another's, or this
    slice was begun: it was sent more than once. number: slices before this one."""
    now = lease.clock()
    found: Any = rows.objects.for_tenant(tenant_id).filter(pk=pk)
    claimed = found.unclaimed().filter(slices=number)
    if not claimed.update(
        lease_token=uuid.uuid4(),
        lease_until=now + lease.LEASE,
        slices=number + 1,
        is_sent=False,
        attempts=F("attempts") + 1,
        updated=now,
    ):
        return None
    ours: S = found.select_related("tenant", *with_it).get()
    return ours
