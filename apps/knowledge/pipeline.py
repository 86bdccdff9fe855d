"""The way of one document from its bytes to searchable passages: fetch, extract, chunk, embed, swap.

Every step stores what it has, so that a rerun goes on where the last one stopped. A step writes in one short
transaction which begins with lease.write(): that locks the document's row and ends the work of a worker that lost it.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from apps.edge import ending
from apps.edge.errors import ServiceUnavailable
from apps.knowledge import announcing, embedding, fetching, lease, metering, metrics, passages, queue, reading, vectors
from apps.knowledge.embedding import GivesWay
from apps.knowledge.lease import SupersededError
from apps.knowledge.models import Chunk, Collection, Document
from apps.knowledge.second import keeping
from apps.tenants.scoping import unit
from apps.usage.ingesting import QuotaUsedUp
from chatbot.chunking import split
from chatbot.errors import ExtractionFailed, ModelError, StorageFull
from chatbot.fetching import SourceUnavailable
from chatbot.supervising import ReaderKilled

log = structlog.get_logger(__name__)

# Attempts in a row that got no further; each batch of vectors that is stored starts the count again (embedding.py).
MAX_ATTEMPTS = 8
FIRST_BACKOFF, LONGEST_BACKOFF = 15.0, 600.0  # seconds
# Documents that one process is at. Each may have a reader of its own, with its memory.
MOST_AT_ONCE = 3
LOOKS_EVERY = 2.0  # seconds


class NoTextError(ExtractionFailed):
    code = "empty"
    default_message = "No text was found in the file. If it holds scanned pages, they need text recognition first."


class InterruptedTooOftenError(ExtractionFailed):
    code = "interrupted"
    default_message = "Ingestion was interrupted again and again."


async def run(tenant_id: uuid.UUID, document_id: uuid.UUID, *, in_line: bool, beside: int = 0) -> None:
    """Ingest a document that no other worker holds; its tenant's next one is sent at once, and again at the end.

    in_line: as ingest.ingest has it. beside: how many others this process is at already.
    """
    document = await unit(_take, tenant_id, document_id, in_line=in_line)
    if document is None:
        return
    await unit(queue.send_due, tenant_id)
    with structlog.contextvars.bound_contextvars(tenant=document.tenant.slug, document=str(document_id)):
        over = asyncio.Event()
        others = asyncio.create_task(_take_others(document, over, beside + 1))
        try:
            metrics.INGESTED.labels(await _attempt(document)).inc()
            await unit(queue.send_due, tenant_id)
        finally:
            over.set()
            await others


async def _take_others(document: Document, over: asyncio.Event, beside: int) -> None:
    """Until it is over, take up what tenants that have no worker have in line, one after the other.

    A document may be at one step for minutes, in which its worker mostly waits: for the process that reads the file,
    for a host or an endpoint. A worker that has been told to end leaves the line to those that stay.
    """
    while beside < MOST_AT_ONCE:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOKS_EVERY):
                await over.wait()
                return
        if ending.has_begun():
            return
        try:
            if found := await unit(queue.left_waiting, document):
                log.info("document.others_taken")
                await run(*found, in_line=False, beside=beside)
        except Exception:
            log.exception("document.others_failed")  # whatever it was: nobody's work fails for another's


def _take(tenant_id: uuid.UUID, document_id: uuid.UUID, *, in_line: bool) -> Document | None:
    if in_line and queue.step_back(tenant_id, document_id):
        return None
    return lease.claim(tenant_id, document_id)


async def _attempt(document: Document) -> str:
    try:
        if document.attempts > MAX_ATTEMPTS:
            raise InterruptedTooOftenError
        await lease.while_leased(document, _work(document))
    except SupersededError:
        log.info("document.superseded")
        return "superseded"
    except (QuotaUsedUp, GivesWay) as reason:
        return await unit(_pause, document, reason)
    except (ModelError, SourceUnavailable, StorageFull, ServiceUnavailable, ReaderKilled) as error:
        return await unit(_back_off, document, error.code, error.message, least=error.retry_after or 0.0)
    except ExtractionFailed as error:
        return await unit(_fail, document, error.code, error.message)
    except (OperationalError, InterfaceError, OSError) as error:
        # The sentence is for whoever owns the document; the log has the rest.
        log.warning("document.attempt_failed", exc_info=error)
        return await unit(_back_off, document, "storage", "Parley's own storage did not answer.")
    log.info("document.ready", attempts=document.attempts)
    return "ready"


async def _work(document: Document) -> None:
    if document.to_fetch:
        with _timed("fetching"):
            changed = await fetching.bring(document)
        if not changed:
            await unit(_settle, document)
            return
    if not await unit(_begin, document):
        await unit(metering.refuse_unread, document)
        with _timed("extracting"):
            extracted = await reading.extracted(document)
        await unit(lease.write, document, status=Document.Status.CHUNKING, progress_done=0, progress_total=0)
        with _timed("chunking"):
            title = passages.title(document, extracted)
            cut = await asyncio.to_thread(split, extracted, title=title)
            if not cut:
                raise NoTextError
            await unit(passages.store, document, title, extracted, cut)
    while True:
        with _timed("embedding"):
            await embedding.embed(document, document.collection.index)
            await keeping.embed(document)
        if await unit(_swap, document):
            return


@contextmanager
def _timed(stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    metrics.STAGE_SECONDS.labels(stage).observe(time.perf_counter() - started)


def _begin(document: Document) -> bool:
    """Whether an earlier attempt stored the passages, all of which come in one transaction: then go on from there."""
    metering.begin(document)
    pending = passages.pending(document)
    total = pending.count()
    if total == 0:
        lease.write(document, status=Document.Status.EXTRACTING, progress_done=0, progress_total=0)
        return False
    lease.write(document, status=Document.Status.EMBEDDING, progress_done=_done(document), progress_total=total)
    return True


def _done(document: Document) -> int:
    """How many passages have their vectors in the index in use, as far as we know which that is."""
    return passages.pending(document).filter(embeddings__index=document.collection.index_id).count()


def _swap(document: Document) -> bool:
    """Make the new passages the live ones: a search sees all of the old or all of the new. False where the collection
    uses another index by now, in which they have no vectors yet."""
    if not keeping.is_current(document):
        document.collection = Collection.objects.select_related("index__endpoint").get(pk=document.collection_id)
        lease.write(document, progress_done=_done(document))
        return False
    lease.write(document, status=Document.Status.READY)
    Chunk.objects.for_tenant(document.tenant_id).filter(document=document, live=True).discard()
    pending = passages.pending(document)
    pending.forget_other_vectors(vectors.kept(document))
    stemming = passages.read_as_told(document)
    _settle(document, stemming=stemming, passages=pending.publish())
    return True


def _settle(document: Document, /, **fields: object) -> None:
    """Its live passages are those of its bytes, and nothing is left to do."""
    lease.write(
        document,
        status=Document.Status.READY,
        ready_at=timezone.now(),
        attempts=0,
        failure_code="",
        failure_message="",
        needs=0,
        needs_metric="",
        lease_until=None,
        lease_token=None,
        **fields,
    )
    announcing.document_ready(document)


def _pause(document: Document, reason: QuotaUsedUp | GivesWay) -> str:
    """Go on when the tenant's turn comes again. Where a quota is used up, when that is free; fail where it never is."""
    if isinstance(reason, GivesWay):
        log.info("document.laid_aside")
        return _give_up(document, "", "", status=Document.Status.QUEUED, next_attempt_at=timezone.now())
    if reason.until is None:
        return _fail(document, reason.code, str(reason))
    log.info("document.waiting", metric=reason.metric, until=reason.until.isoformat())
    return _give_up(document, reason.code, str(reason), **metering.waiting(reason))


def _fail(document: Document, code: str, message: str) -> str:
    log.info("document.failed", code=code)
    return _give_up(document, code, message, status=Document.Status.FAILED)


def _back_off(document: Document, code: str, message: str, *, least: float = 0.0) -> str:
    """Try again later, in `least` seconds or more, or fail where that has been done often enough."""
    rows = Document.objects.for_tenant(document.tenant_id).filter(pk=document.pk)
    attempts = rows.values_list("attempts", flat=True).first() or 0
    if attempts >= MAX_ATTEMPTS:
        return _fail(document, code, message)
    delay = min(FIRST_BACKOFF * 2 ** max(attempts - 1, 0), LONGEST_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311
    delay = max(delay, least)
    log.info("document.retrying", code=code, attempts=attempts, seconds=round(delay))
    due = timezone.now() + datetime.timedelta(seconds=delay)
    return _give_up(document, code, message, status=Document.Status.RETRYING, next_attempt_at=due)


def _give_up(document: Document, code: str, message: str, **fields: object) -> str:
    try:
        lease.write(
            document, failure_code=code, failure_message=message[:500], lease_until=None, lease_token=None, **fields
        )
    except SupersededError:
        return "superseded"
    if fields["status"] != Document.Status.FAILED:
        return str(fields["status"])
    announcing.document_failed(document)
    return code
