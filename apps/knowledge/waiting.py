"""Lets documents go on that wait for a quota, where it is free before its window ends: a limit was raised, or something
was given back. At the end of the window they are due by themselves (queue.py)."""

from __future__ import annotations

import uuid
from typing import Any, Final

import structlog
from django.utils import timezone

from apps.knowledge.models import Document
from apps.tenants import lookups
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage import ingesting

log = structlog.get_logger(__name__)

AT_ONCE: Final = 200  # of a tenant; the next round finds the rest


def tenants() -> list[uuid.UUID]:
    """Those that have documents waiting."""
    return [tenant_id for (tenant_id,) in lookups.call("tenants_with_waiting_documents", timezone.now())]


def wake(tenant_id: uuid.UUID) -> int:
    """Make those due whose needs are free by now, the oldest first; how many."""
    now = timezone.now()
    with tenant_scope(tenant_id):
        tenant = Tenant.objects.get(pk=tenant_id)
        rows = Document.objects.for_tenant(tenant).waiting(now)
        found = list(rows.select_for_update(skip_locked=True, of=("self",)).order_by("created")[:AT_ONCE])
        left = {metric: _left(tenant, metric) for metric in {row.needs_metric for row in found}}
        woken = []
        for row in found:
            free = left[row.needs_metric]
            if free is None or row.needs <= free:
                woken.append(row.pk)
                left[row.needs_metric] = None if free is None else free - row.needs
        Document.objects.for_tenant(tenant).filter(pk__in=woken).update(next_attempt_at=now, updated=now)
    if woken:
        log.info("documents.woken", tenant=tenant.slug, documents=len(woken))
    return len(woken)


def _left(tenant: Tenant, metric: Any) -> int | None:
    """None where nothing is limited."""
    return min((room.left for room in ingesting.rooms(tenant, metric)), default=None)
