"""What can happen to a document: it is added, replaced, retried, deleted, and ingested by a worker."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from asgiref.sync import async_to_sync
from django.core.files.base import ContentFile, File
from django.db import IntegrityError
from django.utils import timezone

from apps.knowledge import forgetting, pipeline, queue, storage
from apps.knowledge.models import TITLE_CHARS, Chunk, Collection, Document
from apps.tenants.models import Tenant, User
from apps.tenants.scoping import tenant_scope
from apps.usage import keeping
from chatbot.errors import InvalidRequest, NotFound
from chatbot.formats import detect

# A text that came without a file is read as Markdown, of which plain text is a kind.
UNNAMED = "text.md"
# Of a document that comes from no address.
UPLOADED: Mapping[str, Any] = {"source_url": "", "fetched_at": None, "etag": "", "modified": ""}


def add_document(
    tenant: Tenant,
    collection: Collection,
    *,
    name: str,
    content: File[bytes] | bytes,
    title: str = "",
    language: str = "",
    created_by: User | None = None,
    origin: Mapping[str, Any] = UPLOADED,
    fulfil: Callable[[Document], None] | None = None,
) -> tuple[Document, bool]:
    """Store a document and queue its ingestion; False with the one that has the same bytes already, retried if failed.

    name: the file's name, which tells its type; empty for a text without a file. language: one of LANGUAGES, or empty
    to have it found out. origin: where the bytes come from. fulfil: of a document that counts as kept already; lets
    that go in the transaction that counts anew, and is told which one is about to be stored.
    Raises UnsupportedType, PayloadTooLarge, StorageFull, InvalidRequest (with fields), NotFound for a lost collection,
    QuotaExceeded where the tenant may keep no more.
    """
    title, name = checked_title(title), storage.safe_name(name)
    content = ContentFile(content) if isinstance(content, bytes) else content
    measured = storage.measure(content)
    media_type = detect(name or UNNAMED, content)
    if known := _known(tenant, collection, measured.sha256):
        with suppress(NotFound):  # deleted at this moment, so what we hold is new
            retry_document(tenant, known)
            return known, False
    if not fulfil:
        with tenant_scope(tenant):  # before anything is stored
            keeping.refuse_beyond(tenant, collection.pk, exactly=False, documents=1, bytes=measured.size)
    document = Document(
        tenant=tenant,
        collection=collection,
        title=title or storage.title_of(name),
        language=language,
        file_name=name,
        media_type=media_type,
        size=measured.size,
        sha256=measured.sha256,
        created_by=created_by,
        **origin,
    )
    try:
        with storage.keeping(tenant, content, measured.sha256) as own, tenant_scope(tenant):
            storage.in_turn(tenant)
            if fulfil:
                fulfil(document)
            keeping.refuse_beyond(tenant, collection.pk, exactly=True, documents=1, bytes=measured.size)
            document.stored = storage.known_as(tenant, measured.sha256, own)
            document.save(force_insert=True)
            if document.stored != own:
                forgetting.let_go(tenant, own)
            queue.send_due(tenant.pk)
    except IntegrityError as error:
        # Somebody was quicker with the same bytes, or the collection is gone.
        if known := _known(tenant, collection, measured.sha256):
            return known, False
        raise NotFound from error
    return document, True


def replace_document(
    tenant: Tenant,
    document: Document,
    *,
    name: str,
    content: File[bytes] | bytes,
    origin: Mapping[str, Any] = UPLOADED,
) -> Document:
    """Give a document new bytes and queue it. Its passages stay searchable until the new ones take their place.

    The bytes that it has already change nothing. Raises as add_document does; InvalidRequest too where another
    document of the collection has these bytes.
    """
    name = storage.safe_name(name)
    content = ContentFile(content) if isinstance(content, bytes) else content
    measured = storage.measure(content)
    media_type = detect(name or UNNAMED, content)
    if measured.sha256 == document.sha256 and not document.source_url:
        retry_document(tenant, document)
        return document
    more: Any = {"bytes": measured.size, "instead_of": document.pk}
    with tenant_scope(tenant):
        keeping.refuse_beyond(tenant, document.collection_id, exactly=False, **more)
    try:
        with storage.keeping(tenant, content, measured.sha256) as own, tenant_scope(tenant):
            storage.in_turn(tenant)
            keeping.refuse_beyond(tenant, document.collection_id, exactly=True, **more)
            current = locked(tenant, document)
            stored = storage.known_as(tenant, measured.sha256, own)
            unneeded = {current.stored, own} - {stored}
            if storage.is_own_title(current):
                current.title = storage.title_of(name)
            for field, value in origin.items():
                setattr(current, field, value)
            current.to_fetch = False
            current.file_name, current.media_type, current.stored = name, media_type, stored
            current.size, current.sha256 = measured.size, measured.sha256
            requeue(current)
            current.save()
            # A worker may be at the old bytes: it notices that its lease is gone before it writes anything.
            Chunk.objects.for_tenant(tenant).filter(document=current, live=False).discard()
            for name in unneeded:
                forgetting.let_go(tenant, name)
            queue.send_due(tenant.pk)
    except IntegrityError as error:
        raise InvalidRequest(fields={"file": "Another document of this collection has the same content."}) from error
    return current


def retry_document(tenant: Tenant, document: Document) -> None:
    """Queue a failed document again, and one that backs off or waits at once. Updates `document`.

    One from an address is fetched again, also when it is ready. Others are left alone.
    """
    with tenant_scope(tenant):
        current = locked(tenant, document)
        settled = current.status == Document.Status.FAILED or (
            current.status == Document.Status.READY and current.source_url != ""
        )
        if settled or current.pauses:
            # What backs off goes on where it stopped.
            current.to_fetch = current.to_fetch or (settled and current.source_url != "")
            requeue(current)
            current.save()
            queue.send_due(tenant.pk)
        document.refresh_from_db(from_queryset=Document.objects.select_related("collection"))


def read_in(tenant: Tenant, document: Document, language: str) -> None:
    """Have its words read as those of a language, or of the one that is found out where it is empty. What is ready is
    read from its bytes anew, and found as before until then; what is on its way goes on. Vectors stay."""
    with tenant_scope(tenant):
        current = locked(tenant, document)
        if current.language == language:
            return
        current.language = language
        if current.status in (Document.Status.READY, Document.Status.FAILED):
            requeue(current)
        current.save()
        queue.send_due(tenant.pk)


def delete_document(tenant: Tenant, document: Document) -> None:
    """Delete it with its passages, and then all that is left of it; a worker that is at it stops and writes nothing
    more."""
    with tenant_scope(tenant):
        storage.in_turn(tenant)
        try:
            current = locked(tenant, document)
        except NotFound:
            return
        Chunk.objects.for_tenant(tenant).filter(document=current).discard()
        forgetting.bury(tenant, [current])
        current.delete()


def ingest(tenant_id: uuid.UUID | str, document_id: uuid.UUID | str, *, in_line: bool = False) -> None:
    """Bring a document from its bytes to searchable passages, unless another worker is at it. Rerunning is harmless.

    in_line: it stood in line for a worker, and may be sent to the end of it (queue.step_back).
    """
    async_to_sync(pipeline.run)(uuid.UUID(str(tenant_id)), uuid.UUID(str(document_id)), in_line=in_line)


def checked_title(title: str) -> str:
    if "\0" in title:
        raise InvalidRequest(fields={"title": "Null characters are not allowed."})
    if len(title) > TITLE_CHARS:
        raise InvalidRequest(fields={"title": f"A title may have at most {TITLE_CHARS} characters."})
    return title.strip()


def _known(tenant: Tenant, collection: Collection, sha256: str) -> Document | None:
    with tenant_scope(tenant):
        rows = Document.objects.for_tenant(tenant).filter(collection=collection, sha256=sha256)
        found: Document | None = rows.select_related("collection").first()
    return found


def locked(tenant: Tenant, document: Document) -> Document:
    """The row as it is now, locked. Raises NotFound where it was deleted meanwhile."""
    rows = Document.objects.for_tenant(tenant).select_related("collection").select_for_update(of=("self",))
    current: Document | None = rows.filter(pk=document.pk).first()
    if current is None:
        raise NotFound
    return current


def requeue(document: Document) -> None:
    fresh: dict[str, Any] = {
        "status": Document.Status.QUEUED,
        "failure_code": "",
        "failure_message": "",
        "attempts": 0,
        "needs": 0,
        "needs_metric": "",
        "progress_done": 0,
        "progress_total": 0,
        "lease_until": None,
        "lease_token": None,
        "next_attempt_at": timezone.now(),
    }
    for field, value in fresh.items():
        setattr(document, field, value)
