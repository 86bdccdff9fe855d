"""What a document's ingestion takes from its tenant's quotas, step by step: pages when it is read, tokens a batch."""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from apps.knowledge import lease
from apps.knowledge.models import Chunk, Document, EmbeddingIndex, SecondIndex
from apps.usage import ingesting
from apps.usage.ingesting import QuotaUsedUp
from chatbot.extraction import Extracted
from chatbot.tokens import estimate

PAGE_CHARS = 3_000  # of a format that has no pages of its own


@dataclass(frozen=True, slots=True)
class Batch:
    """Passages to embed into an index, as texts, and the tokens that are reserved for it. work: a document or a second
    index, whose worker this is."""

    work: Document | SecondIndex
    index: EmbeddingIndex
    chunks: list[Chunk]
    texts: list[str]
    reservation: uuid.UUID
    tokens: list[int]


def begin(document: Document) -> None:
    """It is ours now: what a worker had reserved for it that died is free, and it waits for nothing any more."""
    ingesting.give_back(document.tenant, document_id=document.pk)
    if document.failure_code == QuotaUsedUp.code:
        lease.write(document, failure_code="", failure_message="")


def pages_of(extracted: Extracted) -> int:
    """Pages as quotas count them: the file's own; of a format without any, as many as its text would fill."""
    own = sum(page.number is not None for page in extracted.pages)
    return own or max(1, math.ceil(sum(len(page.text) for page in extracted.pages) / PAGE_CHARS))


def refuse_unread(document: Document) -> None:
    """Raises QuotaUsedUp where nothing is free, or less than the document is known to need: why read it again?"""
    ingesting.refuse_beyond(document.tenant, "pages", document.needs if document.needs_metric == "pages" else 1)


def refuse_read(document: Document, extracted: Extracted) -> None:
    """Raises QuotaUsedUp where there is no room for its pages."""
    ingesting.refuse_beyond(document.tenant, "pages", pages_of(extracted))


def charge_read(document: Document, extracted: Extracted) -> None:
    ingesting.charge_pages(document.tenant, document.pk, pages_of(extracted))


def reserve(work: Document | SecondIndex, index: EmbeddingIndex, chunks: list[Chunk], texts: list[str]) -> Batch:
    """As many of these passages as there is room for. Raises QuotaUsedUp where there is none for the first."""
    tokens = [estimate(text) for text in texts]
    reservation, fit = ingesting.reserve_tokens(work.tenant, work.pk, tokens, index.endpoint)
    return Batch(work, index, chunks[:fit], texts[:fit], reservation, tokens[:fit])


def settle(batch: Batch, stored: set[uuid.UUID]) -> None:
    """Bill the passages whose vectors are stored, in the transaction that does so. What was made in vain is a loss."""
    if not stored:
        ingesting.give_back(batch.work.tenant, pk=batch.reservation)
        return
    tokens = sum(each for chunk, each in zip(batch.chunks, batch.tokens, strict=True) if chunk.pk in stored)
    ingesting.settle_tokens(batch.work.tenant, batch.reservation, tokens, batch.index.endpoint)


def give_back(work: Document | SecondIndex, reservations: Collection[uuid.UUID]) -> None:
    """Batches that came to nothing. Should PostgreSQL not hear of it, the next attempt says it again, or whoever
    deletes the document."""
    ingesting.give_back(work.tenant, pk__in=list(reservations))


def waiting(used_up: QuotaUsedUp) -> dict[str, Any]:
    """The fields of a document that waits."""
    return {
        "status": Document.Status.WAITING,
        "next_attempt_at": used_up.until,
        "needs": used_up.need,
        "needs_metric": used_up.metric,
        "attempts": 0,  # nothing went wrong
    }
