"""Gives passages their vectors: in batches, several of which are under way at a time.

Each batch is stored as soon as it is made. Both how large and how many they are follows from how the endpoint copes.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from django.db import DatabaseError
from django.db.models import F

from apps.inference import line
from apps.knowledge import lease, metering, metrics, passages, queue, vectors
from apps.knowledge.metering import Batch
from apps.knowledge.models import Chunk, Document, Embedding, EmbeddingIndex, SecondIndex
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
class Work:
    """Passages of a document, or those that a second index lacks, that are to get vectors in an index.

    reserve: the next ones of them, so many at most, with what they cost; None where there are no more. store: with
    their vectors. Both get `held` and are called in its scope, each in a transaction of its own.
    """

    held: Document | SecondIndex
    index: EmbeddingIndex
    reserve: Callable[[Any, int], Batch | None]
    store: Callable[[Any, Batch, list[list[float]]], None]
    pace: Pace = field(init=False)
    under_way: set[asyncio.Task[None]] = field(default_factory=set)
    reserved: set[uuid.UUID] = field(default_factory=set)  # for batches that are not stored yet
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.pace = Pace(min(AT_ONCE, line.slots(self.index.endpoint.limit)))

    async def run(self) -> None:
        """What one batch fails for is raised once the others are stored."""
        try:
            await self._begin()
            while self.under_way:
                await self._one_ends()
                await self._begin()
        finally:
            for task in self.under_way:
                task.cancel()
            await asyncio.gather(*self.under_way, return_exceptions=True)
            if self.reserved:
                with suppress(DatabaseError):
                    await unit(metering.give_back, self.held, self.reserved)
        if self.failure:
            raise self.failure

    async def _begin(self) -> None:
        """As many batches as there is room for; none any more once one has failed."""
        while self.failure is None and len(self.under_way) < self.pace.at_once:
            try:
                batch = await self._reserve()
            except Exception as error:  # noqa: BLE001 - it is raised when what is under way has ended
                self.failure = error
                return
            if batch is None:
                return
            self.under_way.add(asyncio.create_task(self._embed(batch)))

    async def _reserve(self) -> Batch | None:
        reserving = asyncio.ensure_future(unit(self.reserve, self.held, self.pace.size))
        try:
            return await asyncio.shield(reserving)
        finally:
            # Who is stopped meanwhile waits for what is being reserved: nobody else would know of it.
            await asyncio.wait([reserving])
            if reserving.exception() is None and (batch := reserving.result()):
                self.reserved.add(batch.reservation)

    async def _one_ends(self) -> None:
        done, self.under_way = await asyncio.wait(self.under_way, return_when=asyncio.FIRST_COMPLETED)
        failures = [task.exception() for task in done]  # each is asked for, or asyncio complains that it was not
        self.failure = next(filter(None, [self.failure, *failures]), None)

    async def _embed(self, batch: Batch) -> None:
        made, seconds = await _made(batch, self.pace)
        await unit(self.store, self.held, batch, made)
        self.reserved.discard(batch.reservation)
        self.pace.stored(len(batch.chunks), seconds)


async def embed(document: Document, index: EmbeddingIndex) -> None:
    """A vector in the index for each passage of the document's next version that has none, unless the index is dropped.

    Raises GivesWay where the worker is wanted elsewhere.
    """
    began = time.perf_counter()
    after = -1  # the last position that a batch was made of

    def reserve(document: Document, size: int) -> Batch | None:
        nonlocal after
        chunks = _next_batch(document, index, after, size)
        if not chunks or index.pk not in vectors.kept(document):
            return None
        if after >= 0 and queue.gives_way(document, at_length=time.perf_counter() - began > SLICE):
            raise GivesWay
        batch = metering.reserve(document, index, chunks, [embedded_text(document, chunk) for chunk in chunks])
        after = batch.chunks[-1].position
        return batch

    await Work(document, index, reserve, _store).run()


async def _made(batch: Batch, pace: Pace) -> tuple[list[list[float]], float]:
    """The vectors, and for how many seconds the endpoint was at them."""
    asked_again = 0
    while True:
        try:
            async with line.place(batch.index.endpoint):
                began = time.perf_counter()
                made = await vectors.embed(batch.index, batch.texts, input_type="passage")
                return made, time.perf_counter() - began
        except ModelBusy as error:
            pace.refused()
            if error.retry_after is None or error.retry_after > SOON or asked_again == ASKED_AGAIN:
                raise
            asked_again += 1
            await asyncio.sleep(error.retry_after)


def next_size(size: int, seconds: float) -> int:
    """Passages in the next batch, when one of `size` took `seconds`."""
    if seconds < QUICK:
        return min(size * 2, LARGEST_BATCH)
    return max(size // 2, 1) if seconds > SLOW else size


def embedded_text(document: Document, chunk: Chunk) -> str:
    """A passage under its headings: without them, "Press it twice" is about nothing."""
    return "\n".join([" > ".join(dict.fromkeys([document.title, *chunk.heading])), chunk.text])


def _next_batch(document: Document, index: EmbeddingIndex, after: int, size: int) -> list[Chunk]:
    """The next passages without a vector, behind position `after`."""
    # Two questions and not a join: its plan is quadratic while the statistics still say that the tables are empty.
    known = Embedding.objects.for_tenant(document.tenant_id).filter(index=index)
    rows = passages.pending(document).order_by("position").only("heading", "text", "position")
    while batch := list(rows.filter(position__gt=after)[:size]):
        made = set(known.filter(chunk__in=batch).values_list("chunk", flat=True))
        if missing := [chunk for chunk in batch if chunk.pk not in made]:
            return missing
        after = batch[-1].position
    return []


def _store(document: Document, batch: Batch, made: list[list[float]]) -> None:
    # Progress is that of the index in use: with it, the document can go live.
    further = len(batch.chunks) if batch.index.pk == document.collection.index_id else 0
    lease.write(document, attempts=0, progress_done=F("progress_done") + further)
    metering.settle(batch, {chunk.pk for chunk in batch.chunks})
    vectors.store(document, batch.index, batch.chunks, made)
    metrics.EMBEDDED.inc(len(batch.chunks))
