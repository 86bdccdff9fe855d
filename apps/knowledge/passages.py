"""The passages of a document's next version: stored beside the live ones, out of search's sight until the swap."""

from __future__ import annotations

from apps.knowledge import lease, metering, metrics, storage, vectors
from apps.knowledge.models import PUBLISHED_AT_ONCE, TITLE_CHARS, Chunk, ChunkQuerySet, Document
from chatbot import languages
from chatbot.chunking import Passage
from chatbot.extraction import Extracted


def pending(document: Document) -> ChunkQuerySet:
    rows: ChunkQuerySet = Chunk.objects.for_tenant(document.tenant_id).filter(document=document, live=False)
    return rows


def lack_vectors(document: Document) -> bool:
    """Whether live ones have none in the index in use, as releases that knew of no second index may have left them."""
    live = Chunk.objects.for_tenant(document.tenant_id).filter(document=document, live=True)
    return bool(live.count() > live.filter(embeddings__index=document.collection.index_id).count())


def title(document: Document, extracted: Extracted) -> str:
    """What its owner called it, else what it calls itself."""
    given: str = document.title
    return (extracted.title or given)[:TITLE_CHARS] if storage.is_own_title(document) else given


def store(document: Document, title: str, extracted: Extracted, cut: list[Passage]) -> None:
    document.title = title  # which the vectors are made of, too
    stemming = languages.stemming(document.language or languages.detect([passage.text for passage in cut]))
    # A worker of the release before may make them live, and leave the document's as it is.
    first = {} if document.passages else {"stemming": stemming}
    lease.write(document, title=title, pages=len(extracted.pages), **first)
    metering.refuse_read(document, extracted)  # before all this is written
    pending(document).discard()
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
                stemming=stemming,
            )
            for passage in cut
        ),
        batch_size=500,
    )
    reused = vectors.reuse(document)
    metrics.REUSED.inc(reused)
    lease.write(document, status=Document.Status.EMBEDDING, progress_done=reused, progress_total=len(cut))
    # Last, since others of the tenant wait meanwhile; and with the passages, so that a rerun pays no second time.
    metering.charge_read(document, extracted)


def read_as_told(document: Document) -> str:
    """Read the words of the next version in the language that was given last, perhaps after they were stored; the
    configuration of their stems. In a transaction that has locked the document's row."""
    document.refresh_from_db(fields=["language"])
    rows = pending(document)
    total = rows.count()
    if not (language := document.language):
        # No more texts than are looked at: they may be many.
        sample = rows.filter(position__in=range(0, total, max(1, total // languages.SAMPLES)))
        language = languages.detect(list(sample.order_by("position").values_list("text", flat=True)))
    stemming = languages.stemming(language)
    for start in range(0, total, PUBLISHED_AT_ONCE):
        some = rows.filter(position__gte=start, position__lt=start + PUBLISHED_AT_ONCE)
        some.exclude(stemming=stemming).update(stemming=stemming)
    return stemming
