"""Starts and stops runs, and sends their slices to the workers: one of a tenant at a time."""

from __future__ import annotations

import uuid

import structlog
from django.db import IntegrityError
from django.utils import timezone

from apps.knowledge import slices
from apps.knowledge.models import Source, SourceRun
from apps.tenants import lookups
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from chatbot.errors import NotFound

log = structlog.get_logger(__name__)

SLICE_TASK = "knowledge.run_source"
BEGUN_AT_ONCE = 50  # of a tenant; the next round begins others
# Reports that are kept of each source.
KEPT_RUNS = 20


def run_now(tenant: Tenant, source: Source) -> tuple[SourceRun, bool]:
    """Queue a run; False with the one that has not ended yet. Raises NotFound for a source that is gone."""
    try:
        with tenant_scope(tenant):
            run = _queued(source)
            send_due(tenant.pk)
            return run, True
    except IntegrityError as error:
        with tenant_scope(tenant):
            running = SourceRun.objects.for_tenant(tenant).filter(source=source.pk).unfinished().first()
        if running is None:
            raise NotFound from error
        return running, False


def _queued(source: Source) -> SourceRun:
    runs = SourceRun.objects.for_tenant(source.tenant_id).filter(source=source)
    kept = runs.order_by("-created").values_list("pk", flat=True)[: KEPT_RUNS - 1]
    runs.exclude(pk__in=list(kept)).delete()
    now = timezone.now()
    Source.objects.for_tenant(source.tenant_id).filter(pk=source.pk).update(next_run_at=source.next_after(now))
    run: SourceRun = SourceRun.objects.create(tenant_id=source.tenant_id, source=source, next_slice_at=now)
    return run


def stop(tenant: Tenant, source: Source) -> bool:
    """End the run of the source, if there is one: its worker writes nothing more. What was brought stays."""
    now = timezone.now()
    with tenant_scope(tenant):
        running = SourceRun.objects.for_tenant(tenant).filter(source=source).unfinished()
        stopped = running.update(
            state=SourceRun.State.STOPPED, ended=now, lease_until=None, lease_token=None, updated=now
        )
    return bool(stopped)


def begin_due(tenant_id: uuid.UUID) -> int:
    """Queue runs of the tenant's sources whose time has come; how many."""
    now = timezone.now()
    with tenant_scope(tenant_id):
        if not Tenant.objects.filter(pk=tenant_id, is_active=True).exists():
            return 0
        due = Source.objects.for_tenant(tenant_id).filter(next_run_at__lte=now)
        due = due.select_for_update(skip_locked=True, of=("self",)).order_by("next_run_at")
        sources = list(due[:BEGUN_AT_ONCE])
        for source in sources:
            if SourceRun.objects.for_tenant(tenant_id).filter(source=source).unfinished().exists():
                Source.objects.filter(pk=source.pk).update(next_run_at=source.next_after(now))
            else:
                _queued(source)
    return len(sources)


def send_due(tenant_id: uuid.UUID) -> bool:
    return slices.send_due(SourceRun, SLICE_TASK, tenant_id)


def tenants_waiting() -> list[uuid.UUID]:
    """Those that have runs to begin or slices to send, in no particular order."""
    return [tenant_id for (tenant_id,) in lookups.call("tenants_with_due_sources", timezone.now())]
