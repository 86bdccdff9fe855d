"""Gives a document's passages their vectors: in batches, several of which are under way at a time.

Each batch is stored as soon as it is made. Both how large and how many they are follows from how the endpoint copes.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from django.db.models import F

from apps.knowledge import lease, metering, metrics, passages, queue, vectors
from apps.knowledge.metering import Batch
from apps.knowledge.models import Chunk, Document, Embedding
from apps.tenants.scoping import unit
from chatbot.errors import ModelBusy

# An endpoint may answer one request at a time, so a question waits as long as a batch takes: aim at half a second.
FIRST_BATCH, LARGEST_BATCH = 8, 128
QUICK, SLOW = 0.25, 1.0  # seconds that a batch took, below which the next is doubled and above which it is halved
# Batches of a document under way: while one is stored or on its way, the endpoint is at another.
AT_ONCE = 4
# An endpoint that is busy is asked again in place, if it says so soon enough; then others have the worker.
SOON, ASKED_AGAIN = 10.0, 3  # seconds, times for each batch
# For how long a document may be embedded while tenants without a worker stand in line, if its own has no more than its
# share; well above what it costs to lay it aside and to take it up again.
SLICE = 2.0  # seconds


class GivesWay(Exception):
    """Others come first. What was under way is stored, one batch at least."""


@dataclass(slots=True)
class Pace:
    """size: passages in the next batch. at_once: batches under way."""

    most: int
    size: int = FIRST_BATCH
    at_once: int = 1

    def stored(self, passages: int, seconds: float) -> None:
        self.at_once = min(self.at_once + 1, self.most)
        if passages == self.size:
            self.size = next_size(passages, seconds)

    def refused(self) -> None:
        self.at_once = max(self.at_once // 2, 1)


@dataclass(slots=True)
class _Work:
    document: Document
    pace: Pace
    began: float = field(default_factory=time.perf_counter)
    after: int = -1  # the last position that a batch was made of
    under_way: set[asyncio.Task[None]] = field(default_factory=set)
    failure: BaseException | None = None

    async def begin(self) -> None:
        """As many batches as there is room for; none any more once one has failed."""
        while self.failure is None and len(self.under_way) < self.pace.at_once:
            try:
                at_length = time.perf_counter() - self.began > SLICE
                batch = await unit(_reserved, self.document, self.after, self.pace.size, at_length=at_length)
            except Exception as error:  # noqa: BLE001 - it is raised when what is under way has ended
                self.failure = error
                return
            if batch is None:
                return
            self.after = batch.chunks[-1].position
            self.under_way.add(asyncio.create_task(_embed(batch, self.pace)))

    async def one_ends(self) -> None:
        done, self.under_way = await asyncio.wait(self.under_way, return_when=asyncio.FIRST_COMPLETED)
        failures = [task.exception() for task in done]  # each is asked for, or asyncio complains that it was not
        self.failure = next(filter(None, [self.failure, *failures]), None)


async def embed(document: Document) -> None:
    """A vector for each passage that has none. What one batch fails for is raised once the others are stored.

    Raises GivesWay where the worker is wanted elsewhere.
    """
    work = _Work(document, Pace(min(AT_ONCE, document.collection.index.endpoint.limit)))
    try:
        await work.begin()
        while work.under_way:
            await work.one_ends()
            await work.begin()
    finally:
        for task in work.under_way:
            task.cancel()
        await asyncio.gather(*work.under_way, return_exceptions=True)
    if work.failure:
        raise work.failure


async def _embed(batch: Batch, pace: Pace) -> None:
    async with metering.given_back(batch):
        started = time.perf_counter()
        made = await _made(batch, pace)
        await unit(_store, batch.document, batch, made)
    pace.stored(len(batch.chunks), time.perf_counter() - started)


async def _made(batch: Batch, pace: Pace) -> list[list[float]]:
    asked_again = 0
    while True:
        try:
            return await vectors.embed(batch.document.collection.index, batch.texts, input_type="passage")
        except ModelBusy as error:
            pace.refused()
            if error.retry_after is None or error.retry_after > SOON or asked_again == ASKED_AGAIN:
                raise
            asked_again += 1
            await asyncio.sleep(error.retry_after)


def _reserved(document: Document, after: int, size: int, *, at_length: bool) -> Batch | None:
    chunks = _next_batch(document, after, size)
    if not chunks:
        return None
    if after >= 0 and queue.gives_way(document, at_length=at_length):
        raise GivesWay
    return metering.reserve(document, chunks, [_embedded_text(document, chunk) for chunk in chunks])


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
    rows = passages.pending(document).order_by("position").only("heading", "text", "position")
    while batch := list(rows.filter(position__gt=after)[:size]):
        made = set(known.filter(chunk__in=batch).values_list("chunk", flat=True))
        if missing := [chunk for chunk in batch if chunk.pk not in made]:
            return missing
        after = batch[-1].position
    return []


def _store(document: Document, batch: Batch, made: list[list[float]]) -> None:
    lease.write(document, attempts=0, progress_done=F("progress_done") + len(batch.chunks))
    metering.settle(batch)
    vectors.store(document, batch.chunks, made)
    metrics.EMBEDDED.inc(len(batch.chunks))
