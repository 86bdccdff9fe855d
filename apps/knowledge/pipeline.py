"""The way of one document from its bytes to searchable passages: fetch, extract, chunk, embed, swap.

Every step stores what it has, so that a rerun goes on where the last one stopped. A step writes in one short
transaction which begins with lease.write(): that locks the document's row and ends the work of a worker that lost it.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import structlog
from django.core.files.storage import default_storage
from django.db import InterfaceError, OperationalError, connection
from django.db.models import F
from django.utils import timezone

from apps.knowledge import announcing, fetching, lease, metering, metrics, queue, storage, vectors
from apps.knowledge.lease import SupersededError
from apps.knowledge.metering import Batch
from apps.knowledge.models import TITLE_CHARS, Chunk, ChunkQuerySet, Document, Embedding
from apps.tenants.scoping import unit
from apps.usage.ingesting import QuotaUsedUp
from chatbot.chunking import Passage, split
from chatbot.errors import ExtractionFailed, ModelError, StorageFull
from chatbot.extraction import Extracted, extract
from chatbot.fetching import SourceUnavailable

log = structlog.get_logger(__name__)

# Attempts in a row that got no further; each batch of vectors that is stored starts the count again.
MAX_ATTEMPTS = 8
FIRST_BACKOFF, LONGEST_BACKOFF = 15.0, 600.0  # seconds
# An endpoint may answer one request at a time, so a question waits as long as a batch takes: aim at half a second.
FIRST_BATCH, LARGEST_BATCH = 8, 128
QUICK, SLOW = 0.25, 1.0  # seconds that a batch took, below which the next is doubled and above which it is halved

# Two arrays, and orjson for the numbers: 0.13 ms a passage. Row-level security forbids COPY, which took half as long;
# bulk_create, which writes each number in Python, takes twice as long.
_STORE_VECTORS = """
    INSERT INTO knowledge_embedding (id, tenant_id, index_id, chunk_id, collection_id, live, dimension, vector)
    SELECT gen_random_uuid(), %s, %s, chunk, %s, false, %s, vector::halfvec
    FROM unnest(%s::uuid[], %s::text[]) AS made (chunk, vector)
"""


class NoTextError(ExtractionFailed):
    code = "empty"
    default_message = "No text was found in the file. If it holds scanned pages, they need text recognition first."


class InterruptedTooOftenError(ExtractionFailed):
    code = "interrupted"
    default_message = "Ingestion was interrupted again and again."


class BytesGoneError(ExtractionFailed):
    code = "bytes_missing"
    default_message = "The stored file is gone. Upload the document again."


async def run(tenant_id: uuid.UUID, document_id: uuid.UUID) -> None:
    """Ingest a document that no other worker holds; its tenant's next one is sent at once, and again at the end."""
    document = await unit(lease.claim, tenant_id, document_id)
    if document is None:
        return
    await unit(queue.send_due, tenant_id)
    with structlog.contextvars.bound_contextvars(tenant=document.tenant.slug, document=str(document_id)):
        outcome = await _attempt(document)
        metrics.INGESTED.labels(outcome).inc()
        await unit(queue.send_due, tenant_id)


async def _attempt(document: Document) -> str:
    try:
        if document.attempts > MAX_ATTEMPTS:
            raise InterruptedTooOftenError
        await lease.while_leased(document, _work(document))
    except SupersededError:
        log.info("document.superseded")
        return "superseded"
    except QuotaUsedUp as used_up:
        return await unit(_wait, document, used_up)
    except (ModelError, SourceUnavailable, StorageFull) as error:
        return await unit(_back_off, document, error.code, error.message)
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
            extracted = await asyncio.to_thread(_extracted, document)
        await unit(lease.write, document, status=Document.Status.CHUNKING)
        with _timed("chunking"):
            title = _title(document, extracted)
            passages = await asyncio.to_thread(split, extracted, title=title)
            if not passages:
                raise NoTextError
            await unit(_store_passages, document, title, extracted, passages)
    with _timed("embedding"):
        await _embed(document)
    await unit(_swap, document)


@contextmanager
def _timed(stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    metrics.STAGE_SECONDS.labels(stage).observe(time.perf_counter() - started)


def _begin(document: Document) -> bool:
    """Whether an earlier attempt stored the passages, all of which come in one transaction: then go on from there."""
    metering.begin(document)
    pending = _pending(document)
    total = pending.count()
    if total == 0:
        lease.write(document, status=Document.Status.EXTRACTING)
        return False
    done = pending.filter(embeddings__index=document.collection.index_id).count()
    lease.write(document, status=Document.Status.EMBEDDING, progress_done=done, progress_total=total)
    return True


def _pending(document: Document) -> ChunkQuerySet:
    pending: ChunkQuerySet = Chunk.objects.for_tenant(document.tenant_id).filter(document=document, live=False)
    return pending


def _extracted(document: Document) -> Extracted:
    try:
        # The parser reads a file of ours, wherever the storage keeps its own.
        with default_storage.open(document.stored) as source, tempfile.NamedTemporaryFile(prefix="parley-") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            return extract(Path(copy.name), document.media_type)
    except FileNotFoundError as error:
        raise BytesGoneError from error


def _title(document: Document, extracted: Extracted) -> str:
    """What its owner called it, else what it calls itself."""
    given: str = document.title
    return (extracted.title or given)[:TITLE_CHARS] if storage.is_own_title(document) else given


def _store_passages(document: Document, title: str, extracted: Extracted, passages: list[Passage]) -> None:
    document.title = title  # which the vectors are made of, too
    lease.write(document, title=title, pages=len(extracted.pages))
    metering.refuse_read(document, extracted)  # before all this is written
    _pending(document).discard()
    Chunk.objects.bulk_create(
        (
            Chunk(
                tenant_id=document.tenant_id,
                document=document,
                collection_id=document.collection_id,
                position=passage.position,
                text=passage.text,
                heading=[part[:TITLE_CHARS] for part in passage.heading],
                page=passage.page,
                tokens=passage.tokens,
                digest=passage.digest,
            )
            for passage in passages
        ),
        batch_size=500,
    )
    reused = _reuse_vectors(document)
    metrics.REUSED.inc(reused)
    lease.write(document, status=Document.Status.EMBEDDING, progress_done=reused, progress_total=len(passages))
    # Last, since others of the tenant wait meanwhile; and with the passages, so that a rerun pays no second time.
    metering.charge_read(document, extracted)


def _reuse_vectors(document: Document) -> int:
    """Give passages that the live version has too, word for word, its vectors; how many."""
    passages = Chunk.objects.for_tenant(document.tenant_id).filter(document=document).values_list("digest", "pk")
    live = dict(passages.filter(live=True))
    # Paired here and not by a join: its plan is quadratic while the statistics still say that the table is empty.
    pairs = [(pk, live[digest]) for digest, pk in passages.filter(live=False) if digest in live]
    if not pairs:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO knowledge_embedding
                (id, tenant_id, index_id, chunk_id, collection_id, live, dimension, vector)
            SELECT gen_random_uuid(), e.tenant_id, e.index_id, pair.new, e.collection_id, false, e.dimension, e.vector
            FROM unnest(%(new)s::uuid[], %(old)s::uuid[]) AS pair (new, old)
            JOIN knowledge_embedding e ON e.chunk_id = pair.old AND e.index_id = %(index)s
            WHERE e.tenant_id = %(tenant)s
            """,
            {
                "tenant": document.tenant_id,
                "index": document.collection.index_id,
                "new": [new for new, _ in pairs],
                "old": [old for _, old in pairs],
            },
        )
        return int(cursor.rowcount)


async def _embed(document: Document) -> None:
    index = document.collection.index
    size, after = FIRST_BATCH, -1
    while batch := await unit(_reserved_batch, document, after, size):
        started = time.perf_counter()
        async with metering.given_back(batch):
            made = await vectors.embed(index, batch.texts, input_type="passage")
            await unit(_store_vectors, document, batch, made)
        if len(batch.chunks) == size:
            size = next_size(size, time.perf_counter() - started)
        after = batch.chunks[-1].position


def _reserved_batch(document: Document, after: int, size: int) -> Batch | None:
    chunks = _next_batch(document, after, size)
    texts = [_embedded_text(document, chunk) for chunk in chunks]
    return metering.reserve(document, chunks, texts) if chunks else None


def next_size(size: int, seconds: float) -> int:
    """Passages in the next batch, when one of `size` took `seconds`."""
    if seconds < QUICK:
        return min(size * 2, LARGEST_BATCH)
    return max(size // 2, 1) if seconds > SLOW else size


def _embedded_text(document: Document, chunk: Chunk) -> str:
    """A passage under its headings: without them, "Press it twice" is about nothing."""
    return "\n".join([" > ".join(dict.fromkeys([document.title, *chunk.heading])), chunk.text])


def _next_batch(document: Document, after: int, size: int) -> list[Chunk]:
    """The next passages without a vector, behind position `after`."""
    # Two questions and not a join: its plan is quadratic while the statistics still say that the tables are empty.
    known = Embedding.objects.for_tenant(document.tenant_id).filter(index=document.collection.index_id)
    passages = _pending(document).order_by("position").only("heading", "text", "position")
    while batch := list(passages.filter(position__gt=after)[:size]):
        made = set(known.filter(chunk__in=batch).values_list("chunk", flat=True))
        if missing := [chunk for chunk in batch if chunk.pk not in made]:
            return missing
        after = batch[-1].position
    return []


def _store_vectors(document: Document, batch: Batch, made: list[list[float]]) -> None:
    chunks = batch.chunks
    lease.write(document, attempts=0, progress_done=F("progress_done") + len(chunks))
    metering.settle(batch)
    tenant, collection, index = document.tenant_id, document.collection_id, document.collection.index
    with connection.cursor() as cursor:
        literals = [orjson.dumps(vector).decode() for vector in made]
        ids = [chunk.pk for chunk in chunks]
        cursor.execute(_STORE_VECTORS, [tenant, index.pk, collection, index.dimension, ids, literals])
    metrics.EMBEDDED.inc(len(chunks))


def _swap(document: Document) -> None:
    """Make the new passages the live ones: a search sees all of the old or all of the new."""
    lease.write(document, status=Document.Status.READY)
    Chunk.objects.for_tenant(document.tenant_id).filter(document=document, live=True).discard()
    _settle(document, passages=_pending(document).publish())


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


def _wait(document: Document, used_up: QuotaUsedUp) -> str:
    """Go on when the quota is free again; fail where it never will be."""
    if used_up.until is None:
        return _fail(document, used_up.code, str(used_up))
    log.info("document.waiting", metric=used_up.metric, until=used_up.until.isoformat())
    return _give_up(document, used_up.code, str(used_up), **metering.waiting(used_up))


def _fail(document: Document, code: str, message: str) -> str:
    log.info("document.failed", code=code)
    return _give_up(document, code, message, status=Document.Status.FAILED)


def _back_off(document: Document, code: str, message: str) -> str:
    """Try again later, or fail where that has been done often enough."""
    rows = Document.objects.for_tenant(document.tenant_id).filter(pk=document.pk)
    attempts = rows.values_list("attempts", flat=True).first() or 0
    if attempts >= MAX_ATTEMPTS:
        return _fail(document, code, message)
    delay = min(FIRST_BACKOFF * 2 ** max(attempts - 1, 0), LONGEST_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311
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
