"""Background work on the ledger: counters that say the same, and days that are added up."""

from __future__ import annotations

import uuid

import structlog
from asgiref.sync import async_to_sync
from celery import shared_task

from apps.tenants import lookups
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage import alerting, looking, reconciling, rollups, sweeping, telling

log = structlog.get_logger(__name__)


@shared_task(name="usage.sweep_reservations")
def sweep_reservations() -> int:
    return async_to_sync(sweeping.sweep)()


@shared_task(name="usage.reconcile")
def reconcile() -> int:
    """Mend counters that do not say what the ledger says; how many."""
    mended = 0
    for tenant_id in lookups.all_tenants():
        with tenant_scope(tenant_id):
            tenant = Tenant.objects.get(pk=tenant_id)
        for one in async_to_sync(reconciling.reconcile)(tenant, repair=True).differ:
            mended += 1
            log.error("quota.mended", tenant=tenant.slug, counter=one.counter.name, by=-one.too_many)
    return mended


@shared_task(name="usage.look_at_limits")
def look_at_limits() -> int:
    return async_to_sync(looking.look)()


@shared_task(name=looking.TELL_TASK)
def tell_of_limits(tenant_id: str) -> None:
    telling.tell(uuid.UUID(tenant_id))


@shared_task(name="usage.prune_alerts")
def prune_alerts() -> int:
    return alerting.prune()


@shared_task(name="usage.roll_up")
def roll_up() -> int:
    return rollups.roll_up()
