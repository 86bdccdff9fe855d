"""The first stage of a document that comes from an address: its bytes, where they are not those that it has."""

from __future__ import annotations

import asyncio
import tempfile
from typing import IO, Any

from django.conf import settings
from django.core.files.base import File
from django.db import IntegrityError
from django.utils import timezone

from apps.knowledge import forgetting, lease, passages, storage
from apps.knowledge.models import Chunk, Document
from apps.tenants.scoping import unit
from apps.usage import keeping
from chatbot.errors import ExtractionFailed, PayloadTooLarge, QuotaExceeded, UnsupportedType
from chatbot.fetching import Fetched, SourceTooLarge, SourceUnsupported, fetch
from chatbot.formats import detect


class DuplicateError(ExtractionFailed):
    code = "duplicate"
    default_message = "What is at this address is in this collection already, as another document."


class NoRoomError(ExtractionFailed):
    code = "quota_exceeded"


async def bring(document: Document) -> bool:
    """Fetch and store the bytes of a document that is ours; False where its live passages are made of just these, and
    have their vectors.

    Raises ExtractionFailed, SourceUnavailable, StorageFull, SupersededError.
    """
    await unit(lease.write, document, status=Document.Status.EXTRACTING)
    # Passages that became the live ones after the bytes had come are made of them.
    is_ingested = bool(document.fetched_at and document.ready_at and document.ready_at >= document.fetched_at)
    with tempfile.TemporaryFile(prefix="parley-fetch-") as content:
        fetched = await fetch(
            document.source_url,
            content,
            max_bytes=settings.PARLEY_MAX_UPLOAD_BYTES,
            allowed=settings.PARLEY_PRIVATE_SOURCE_HOSTS,
            etag=document.etag if document.stored else "",
            modified=document.modified if document.stored else "",
        )
        is_new = fetched is not None and await _keep(document, fetched, content)
    if not is_new:
        version = fetched or document
        await unit(
            lease.write,
            document,
            to_fetch=False,
            fetched_at=timezone.now(),
            etag=version.etag,
            modified=version.modified,
        )
    return is_new or not is_ingested or await unit(passages.lack_vectors, document)


async def _keep(document: Document, fetched: Fetched, content: IO[bytes]) -> bool:
    """Make these the document's bytes; False where it has them already."""
    file = File(content, name=fetched.name)
    measured, media_type = await asyncio.to_thread(_measured, file)
    if measured.sha256 == document.sha256:
        return False
    await unit(_refuse_beyond, document, measured.size, exactly=False)
    name = await unit(storage.promised, document.tenant, measured.sha256)
    stored = await asyncio.to_thread(storage.keep, name, file)
    fields = {
        "file_name": storage.safe_name(fetched.name),
        "media_type": media_type,
        "size": measured.size,
        "sha256": measured.sha256,
        "stored": stored,
        "to_fetch": False,
        "fetched_at": timezone.now(),
        "etag": fetched.etag,
        "modified": fetched.modified,
    }
    try:
        await unit(_exchange, document, fields)
    except IntegrityError as error:
        await asyncio.to_thread(storage.discard, stored)
        raise await unit(_duplicate, document, measured.sha256) from error
    except BaseException:
        await asyncio.to_thread(storage.discard, stored)
        raise
    return True


def _measured(file: File[bytes]) -> tuple[storage.Measured, str]:
    try:
        return storage.measure(file), detect(file.name or "", file)
    except PayloadTooLarge as error:
        raise SourceTooLarge(error.message) from error
    except UnsupportedType as error:
        raise SourceUnsupported(error.message) from error


def _refuse_beyond(document: Document, size: int, *, exactly: bool) -> None:
    try:
        keeping.refuse_beyond(
            document.tenant, document.collection_id, exactly=exactly, bytes=size, instead_of=document.pk
        )
    except QuotaExceeded as error:
        raise NoRoomError(f"{error.message} Then retry.") from error


def _exchange(document: Document, fields: dict[str, Any]) -> None:
    storage.in_turn(document.tenant)
    own = fields["stored"]
    fields["stored"] = storage.known_as(document.tenant, fields["sha256"], own)
    _refuse_beyond(document, fields["size"], exactly=True)
    lease.write(document, **fields)
    Chunk.objects.for_tenant(document.tenant_id).filter(document=document, live=False).discard()
    for name in {document.stored, own} - {fields["stored"]}:
        forgetting.let_go(document.tenant, name)
    for field, value in fields.items():
        setattr(document, field, value)


def _duplicate(document: Document, sha256: str) -> DuplicateError:
    rows = Document.objects.for_tenant(document.tenant_id).filter(collection=document.collection_id, sha256=sha256)
    other = rows.first()
    if other is None:  # it was deleted at this moment
        return DuplicateError("What is at this address was in this collection already. Try again.")
    return DuplicateError(f"What is at this address is in this collection already, as “{other.title}”.")
