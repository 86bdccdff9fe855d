"""Makes a document of what is at a page of a source, or gives the one that is there its new bytes.

It goes the way of every upload: limits, storage, queue. Network and disk are used outside transactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.files.base import File
from django.utils import timezone

from apps.knowledge import ingest, storage
from apps.knowledge.crawl.frontier import DuplicateError, Outcome
from apps.knowledge.models import Document, Source, SourcePage
from apps.tenants.scoping import tenant_scope
from apps.usage import ingesting
from chatbot.errors import ExtractionFailed, InvalidRequest, NotFound, PayloadTooLarge, UnsupportedType

# What is wrong with one page and no reason to leave the others. NotFound: its document was deleted at this moment.
REFUSED = (ExtractionFailed, UnsupportedType, PayloadTooLarge, InvalidRequest, NotFound)


def take(source: Source, page: SourcePage, content: File[bytes], *, etag: str, modified: str = "") -> Outcome:
    """content: with the name that tells its type. etag, modified: the version that this is.

    Raises one of REFUSED for what cannot be taken; QuotaExceeded, QuotaUsedUp, StorageFull, ServiceUnavailable where
    nothing more can be.
    """
    origin: dict[str, Any] = {
        "source_page": page,
        "source_url": page.address if source.kind in {Source.Kind.SITE, Source.Kind.SITEMAP} else "",
        "fetched_at": timezone.now(),
        "etag": etag,
        "modified": modified,
    }
    measured = storage.measure(content)
    document: Document | None = getattr(page, "document", None)
    if document and document.sha256 == measured.sha256:
        _keep(document, origin)
        return "unchanged"
    name = content.name or ""
    with tenant_scope(source.tenant):
        ingesting.refuse_beyond(source.tenant, "pages", 1)
        other = _other(source, page, measured.sha256, origin["source_url"])
    if other and document is None and _has_left(source, page, other):
        _keep(other, {**origin, "file_name": storage.safe_name(name)})
        return "unchanged"
    if other:
        raise DuplicateError(f"“{other.title}” of this collection has the same content, or comes from this address.")
    if document:
        try:
            ingest.replace_document(source.tenant, document, name=name, content=content, origin=origin)
        except InvalidRequest as error:
            raise DuplicateError("Another document of this collection has the same content.") from error
        return "changed"
    document, _ = ingest.add_document(
        source.tenant, source.collection, name=name, content=content, created_by=source.created_by, origin=origin
    )
    if document.source_page_id != page.pk:  # somebody was quicker with the same bytes
        raise DuplicateError(f"“{document.title}” of this collection has the same content.")
    return "new"


def note(page: SourcePage, *, etag: str, modified: str = "") -> None:
    """The host says that it is still the version which we have."""
    _keep(page.document, {"fetched_at": timezone.now(), "etag": etag, "modified": modified})


def _keep(document: Document, origin: Mapping[str, Any]) -> None:
    with tenant_scope(document):
        rows = Document.objects.for_tenant(document.tenant_id).filter(pk=document.pk)
        rows.update(**origin)
        # Its live passages are made of just these bytes, which is told by this being no earlier.
        rows.filter(status=Document.Status.READY).update(ready_at=origin["fetched_at"])


def _other(source: Source, page: SourcePage, sha256: str, url: str) -> Document | None:
    """Another document of the collection that has these bytes, or comes from this address."""
    others = Document.objects.for_tenant(source.tenant_id).filter(collection=source.collection_id)
    others = others.exclude(source_page=page).select_related("source_page")
    found: Document | None = others.filter(sha256=sha256).first()
    return found or (others.filter(source_url=url).first() if url else None)


def _has_left(source: Source, page: SourcePage, document: Document) -> bool:
    """Whether its page was renamed to this one: it led elsewhere, or is in the list of pages no longer."""
    left = document.source_page
    if left is None or left.source_id != source.pk:
        return False
    if left.run_id == page.run_id:
        return bool(left.moved)
    return source.kind != Source.Kind.SITE  # where a link to it may yet be found
