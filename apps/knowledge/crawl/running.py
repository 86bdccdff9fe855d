"""One slice of a run: some pages within some seconds, then the next in line has the worker. A run that lost its worker
goes on with the page at which that was."""

from __future__ import annotations

import datetime
import time
import uuid
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError
from django.db.models import F
from django.utils import timezone

from apps.edge.errors import ServiceUnavailable
from apps.knowledge import lease
from apps.knowledge.crawl import frontier, schedule, taking, visiting
from apps.knowledge.crawl.frontier import Visited
from apps.knowledge.crawl.manners import HostBusyError, Manners
from apps.knowledge.lease import SupersededError
from apps.knowledge.models import Source, SourcePage, SourceRun
from apps.tenants.scoping import unit
from apps.usage.ingesting import QuotaUsedUp
from chatbot.errors import ExtractionFailed, QuotaExceeded, StorageFull
from chatbot.fetching import SourceUnavailable

log = structlog.get_logger(__name__)

SLICE_PAGES, SLICE_SECONDS = 20, 10.0
# Slices in a row that looked at no page: their worker died, or what Parley stands on is away.
MAX_ATTEMPTS = 8
BACKOFF = 30.0  # seconds, times the attempts so far


class InterruptedTooOftenError(ExtractionFailed):
    code = "interrupted"
    default_message = "The run was interrupted again and again, always at the same page."


async def run_slice(tenant_id: uuid.UUID, run_id: uuid.UUID, number: int) -> None:
    """Go on with a run that no other worker holds, and send its tenant's next one. number: slices before this one."""
    run = await unit(claim, tenant_id, run_id, number)
    if run is None:
        return
    with structlog.contextvars.bound_contextvars(tenant=run.tenant.slug, source=str(run.source_id), run=str(run_id)):
        await _attempt(run)
        await unit(schedule.send_due, tenant_id)


def claim(tenant_id: uuid.UUID, run_id: uuid.UUID, number: int) -> SourceRun | None:
    """The run with all that it needs, now ours; None if it has ended, is gone or another's, or this slice was begun: it
    was sent more than once."""
    now = lease.clock()
    rows = SourceRun.objects.for_tenant(tenant_id).filter(pk=run_id)
    if (
        not rows.unclaimed(now)
        .filter(slices=number)
        .update(
            lease_token=uuid.uuid4(),
            lease_until=now + lease.LEASE,
            slices=number + 1,
            is_sent=False,
            attempts=F("attempts") + 1,
            updated=now,
        )
    ):
        return None
    ours: SourceRun = rows.select_related("tenant", "source__collection", "source__created_by").get()
    ours.source.tenant = ours.tenant
    return ours


async def _attempt(run: SourceRun) -> None:
    try:
        if run.attempts > MAX_ATTEMPTS:
            raise InterruptedTooOftenError
        await lease.while_leased(run, _slice(run))
    except SupersededError:
        log.info("run.superseded")
    except QuotaUsedUp as used_up:
        await unit(_fail, run, used_up.code, str(used_up))
    except (*taking.REFUSED, QuotaExceeded) as error:
        await unit(_fail, run, error.code, frontier.sentence_of(error))
    except (StorageFull, ServiceUnavailable) as error:
        await unit(_back_off, run, error.code, error.message)
    except (OperationalError, InterfaceError, OSError) as error:
        log.warning("run.attempt_failed", exc_info=error)
        await unit(_back_off, run, "storage", "Parley's own storage did not answer.")


async def _slice(run: SourceRun) -> None:
    ends, manners = time.monotonic() + SLICE_SECONDS, Manners(run)
    if run.state == SourceRun.State.QUEUED:
        start, listing = visiting.start_of(run.source)
        await unit(frontier.begin, run, start, listing=listing)
    for _ in range(SLICE_PAGES):
        page = None if run.judged else await unit(frontier.next_page, run)
        if page is None:
            await _conclude(run, ends)
            return
        try:
            await _visit(run, page, manners)
        except HostBusyError as busy:
            await unit(_release, run, timezone.now() + datetime.timedelta(seconds=busy.seconds), attempts=0)
            return
        if time.monotonic() > ends:
            break
    await unit(_release, run, timezone.now())


async def _visit(run: SourceRun, page: SourcePage, manners: Manners) -> None:
    """Raises HostBusyError, and what ends the run: nothing can be found where its start or a list cannot be read."""
    try:
        visited = await visiting.look_at(run, page, manners)
    except SourceUnavailable as error:
        if await unit(frontier.put_off, run, page, error):
            return
        visited = Visited("refused", refusal=error)
    except taking.REFUSED as error:
        visited = Visited("refused", refusal=error)
    # All that a run on a site looked at before its first page are redirects to that.
    is_start = page.listing or (run.source.kind == Source.Kind.SITE and run.done == page.hops)
    if visited.refusal and is_start and not visited.leads_to:
        raise visited.refusal
    await unit(frontier.settle, run, page, visited)


async def _conclude(run: SourceRun, ends: float) -> None:
    """No page is left, or none that is due."""
    if not run.judged:
        if due := await unit(frontier.next_due, run):
            await unit(_release, run, due)
            return
        if await unit(frontier.recall, run):
            await unit(_release, run, timezone.now())
            return
        await unit(frontier.judge, run)
    while await unit(frontier.sweep, run):
        if time.monotonic() > ends:
            await unit(_release, run, timezone.now(), attempts=0)
            return
    await unit(_end, run, state=SourceRun.State.FINISHED)
    log.info("run.finished", found=run.found, new=run.new, changed=run.changed, gone=run.gone, refused=run.refused)


def _release(run: SourceRun, /, due: datetime.datetime, **fields: Any) -> None:
    """Whichever worker is free goes on then."""
    lease.write(run, lease_until=None, lease_token=None, next_slice_at=due, **fields)


def _end(run: SourceRun, /, **fields: Any) -> None:
    lease.write(run, lease_until=None, lease_token=None, ended=timezone.now(), **fields)


def _fail(run: SourceRun, code: str, message: str) -> None:
    log.info("run.failed", code=code)
    try:
        _end(run, state=SourceRun.State.FAILED, failure_code=code, failure_message=message[:500])
    except SupersededError:
        log.info("run.superseded")


def _back_off(run: SourceRun, code: str, message: str) -> None:
    """Try again later, or fail where that has been done often enough."""
    attempts = SourceRun.objects.for_tenant(run.tenant_id).filter(pk=run.pk).values_list("attempts", flat=True).first()
    if attempts is None or attempts >= MAX_ATTEMPTS:
        _fail(run, code, message)
        return
    try:
        _release(run, timezone.now() + datetime.timedelta(seconds=BACKOFF * attempts))
    except SupersededError:
        log.info("run.superseded")
