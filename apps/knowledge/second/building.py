"""One slice of the work on a second index: some of the passages that lack a vector in it, then the next in line has the
worker. Each batch is stored as soon as it is made, so one that lost its worker goes on where that was."""

from __future__ import annotations

import datetime
import time
import uuid
from collections import deque
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError
from django.db.models import F
from django.utils import timezone

from apps.edge.errors import ServiceUnavailable
from apps.knowledge import embedding, lease, metering, metrics, vectors
from apps.knowledge.lease import SupersededError
from apps.knowledge.metering import Batch
from apps.knowledge.models import Chunk, Embedding, SecondIndex
from apps.knowledge.second import lacking, schedule
from apps.tenants.scoping import unit
from apps.usage import ingesting
from apps.usage.ingesting import QuotaUsedUp
from chatbot.errors import ModelError, OtherModel

log = structlog.get_logger(__name__)

SLICE_SECONDS = 10.0
AT_A_TIME = 5_000  # passages that are looked for, or vectors that are deleted, in one statement
# Slices in a row that got no further.
MAX_ATTEMPTS = 8
FIRST_BACKOFF, LONGEST_BACKOFF = 15.0, 600.0  # seconds
# Somebody is writing to all documents that are left.
LOOKS_SOON = datetime.timedelta(seconds=5)
# While it waits for a quota: a limit may be raised, or something given back.
LOOKS_AGAIN = datetime.timedelta(seconds=60)

State = SecondIndex.State


async def run_slice(tenant_id: uuid.UUID, second_id: uuid.UUID, number: int) -> None:
    """Go on with one that no other worker holds, and send its tenant's next slice. number: slices before this one."""
    second = await unit(claim, tenant_id, second_id, number)
    if second is None:
        return
    with structlog.contextvars.bound_contextvars(tenant=second.tenant.slug, second_index=str(second_id)):
        await _attempt(second)
        await unit(schedule.send_due, tenant_id)


def claim(tenant_id: uuid.UUID, second_id: uuid.UUID, number: int) -> SecondIndex | None:
    """The second index with all that its building needs, now ours; None if nothing is to be done, it is gone or
    another's, or this slice was begun: it was sent more than once."""
    now = lease.clock()
    rows = SecondIndex.objects.for_tenant(tenant_id).filter(pk=second_id)
    claimed = rows.unclaimed(now).filter(slices=number)
    if not claimed.update(
        lease_token=uuid.uuid4(),
        lease_until=now + lease.LEASE,
        slices=number + 1,
        is_sent=False,
        attempts=F("attempts") + 1,
        updated=now,
    ):
        return None
    ours: SecondIndex = rows.select_related("tenant", "index__endpoint").get()
    return ours


async def _attempt(second: SecondIndex) -> None:
    if second.attempts > MAX_ATTEMPTS and second.state != State.DROPPING:
        await unit(_fail, second, "interrupted", "Building it was interrupted again and again.")
        return
    work = _dropped(second) if second.state == State.DROPPING else _built(second)
    try:
        await lease.while_leased(second, work)
    except SupersededError:
        log.info("second_index.superseded")
    except QuotaUsedUp as used_up:
        await unit(_wait, second, used_up)
    except OtherModel as error:
        await unit(_fail, second, error.code, error.message)
    except (ModelError, ServiceUnavailable) as error:
        await unit(_back_off, second, error.code, error.message, least=error.retry_after or 0.0)
    except (OperationalError, InterfaceError, OSError) as error:
        log.warning("second_index.attempt_failed", exc_info=error)
        await unit(_back_off, second, "storage", "Parley's own storage did not answer.")


# --- Building ---------------------------------------------------------------------------------------------------------


async def _built(second: SecondIndex) -> None:
    ends = time.monotonic() + SLICE_SECONDS
    await unit(_begin, second)
    while time.monotonic() < ends:
        await unit(lease.write, second, behind=False)
        missing = deque(await unit(lacking.first_live, second, AT_A_TIME))
        if not missing and await unit(_finish, second):
            log.info("second_index.ready")
            return
        if missing and not await _embedded(second, missing, ends):
            await unit(_release, second, timezone.now() + LOOKS_SOON, attempts=0)
            return
    await unit(_release, second, timezone.now())


async def _embedded(second: SecondIndex, missing: deque[uuid.UUID], ends: float) -> bool:
    """Whether any of them could be had."""
    could = False

    def reserve(second: SecondIndex, size: int) -> Batch | None:
        nonlocal could
        batch = _reserved(second, missing, size) if time.monotonic() < ends else None
        could = could or batch is not None
        return batch

    await embedding.Work(second, second.index, reserve, _store).run()
    return could


def _begin(second: SecondIndex) -> None:
    ingesting.give_back(second.tenant, document_id=second.pk)  # of a worker that died
    total, done = lacking.count(second)
    lease.write(second, total=total, done=done)


def _reserved(second: SecondIndex, missing: deque[uuid.UUID], size: int) -> Batch | None:
    """The next of the missing. Left out are those that were deleted since, and those of documents that somebody is
    writing to: their vectors could not be stored, and may be of no use a moment later."""
    while missing:
        ids = [missing.popleft() for _ in range(min(size, len(missing)))]
        rows = Chunk.objects.for_tenant(second.tenant_id).filter(pk__in=ids, live=True)
        found = list(rows.select_related("document").only("heading", "text", "document__title"))
        documents = vectors.held(second.index, found)
        chunks = [chunk for chunk in found if chunk.document_id in documents]
        if chunks:
            texts = [embedding.embedded_text(chunk.document, chunk) for chunk in chunks]
            batch = metering.reserve(second, second.index, chunks, texts)
            missing.extendleft(chunk.pk for chunk in chunks[len(batch.chunks) :])
            return batch
    return None


def _store(second: SecondIndex, batch: Batch, made: list[list[float]]) -> None:
    lease.write(second, state=State.BUILDING, attempts=0, failure_code="", failure_message="")
    stored = vectors.store_live(batch.index, batch.chunks, made)
    metering.settle(batch, stored)
    lease.write(second, done=F("done") + len(stored))
    metrics.EMBEDDED.inc(len(stored))


def _finish(second: SecondIndex) -> bool:
    """Ready, unless passages went live without a vector in it since they were looked for."""
    lease.write(second)  # or it is not ours
    total, done = lacking.count(second)
    rows = SecondIndex.objects.for_tenant(second.tenant_id).filter(pk=second.pk, behind=False)
    return bool(
        rows.update(
            state=State.READY,
            total=total,
            done=done,
            attempts=0,
            failure_code="",
            failure_message="",
            lease_until=None,
            lease_token=None,
        )
    )


# --- Dropping ---------------------------------------------------------------------------------------------------------


async def _dropped(second: SecondIndex) -> None:
    ends = time.monotonic() + SLICE_SECONDS
    while time.monotonic() < ends:
        if await unit(_delete_some, second):
            log.info("second_index.dropped")
            return
    await unit(_release, second, timezone.now())


def _delete_some(second: SecondIndex) -> bool:
    """Whether nothing is left; then the row is gone, too."""
    lease.write(second, attempts=0)
    vectors_of = Embedding.objects.for_tenant(second.tenant_id).filter(index=second.index_id)
    live = vectors_of.filter(collection=second.collection_id, live=True)
    deleted = vectors_of.filter(pk__in=list(live.values_list("pk", flat=True)[:AT_A_TIME]))._raw_delete("default")
    if deleted:
        return False
    unpublished = Chunk.objects.for_tenant(second.tenant_id).filter(collection=second.collection_id, live=False)
    vectors_of.filter(chunk__in=unpublished.values("pk"))._raw_delete("default")
    if live.exists():  # some went live between the two looks
        return False
    SecondIndex.objects.for_tenant(second.tenant_id).filter(pk=second.pk).delete()
    return True


# --- How a slice ends -------------------------------------------------------------------------------------------------


def _release(second: SecondIndex, due: datetime.datetime, /, **fields: Any) -> None:
    """Whichever worker is free goes on then."""
    lease.write(second, lease_until=None, lease_token=None, next_slice_at=due, **fields)


def _wait(second: SecondIndex, used_up: QuotaUsedUp) -> None:
    """Go on when the quota is free again; fail where it never will be."""
    if used_up.until is None:
        _fail(second, used_up.code, str(used_up))
        return
    log.info("second_index.waiting", metric=used_up.metric, until=used_up.until.isoformat())
    _pause(second, State.WAITING, used_up.code, str(used_up), timezone.now() + LOOKS_AGAIN, attempts=0)


def _back_off(second: SecondIndex, code: str, message: str, *, least: float = 0.0) -> None:
    """Try again later, in `least` seconds or more, or fail where that has been done often enough."""
    rows = SecondIndex.objects.for_tenant(second.tenant_id).filter(pk=second.pk)
    attempts = rows.values_list("attempts", flat=True).first() or 0
    if attempts >= MAX_ATTEMPTS and second.state != State.DROPPING:
        _fail(second, code, message)
        return
    delay = max(min(FIRST_BACKOFF * 2 ** max(attempts - 1, 0), LONGEST_BACKOFF), least)
    log.info("second_index.retrying", code=code, attempts=attempts, seconds=round(delay))
    state = State.DROPPING if second.state == State.DROPPING else State.RETRYING
    _pause(second, state, code, message, timezone.now() + datetime.timedelta(seconds=delay))


def _pause(second: SecondIndex, state: str, code: str, message: str, due: datetime.datetime, **fields: Any) -> None:
    try:
        _release(second, due, state=state, failure_code=code, failure_message=message[:500], **fields)
    except SupersededError:
        log.info("second_index.superseded")


def _fail(second: SecondIndex, code: str, message: str) -> None:
    log.info("second_index.failed", code=code)
    _pause(second, State.FAILED, code, message, timezone.now())
