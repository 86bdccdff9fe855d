"""A document's bytes as text, read by a confined process, and how many of its pages that has read so far."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import DatabaseError
from django.utils import timezone

from apps.knowledge.models import Document
from apps.tenants.scoping import unit
from chatbot.errors import ExtractionFailed
from chatbot.extraction import Extracted, extract
from chatbot.recognition import Recognition

TELL_EVERY = 1.0  # seconds


def recognition(language: str = "") -> Recognition:
    """What operators chose to recognise text by. language: one of LANGUAGES, where somebody said it."""
    return Recognition(settings.PARLEY_OCR_ENGINE, tuple(settings.PARLEY_OCR_LANGUAGES), language)


class BytesGoneError(ExtractionFailed):
    code = "bytes_missing"
    default_message = "The stored file is gone. Upload the document again."


@dataclass(slots=True)
class _Seen:
    """What the reader's thread has heard. Its watch over the process must not wait for a database."""

    done: int = 0
    total: int = 0

    def tell(self, done: int, total: int) -> None:
        self.done, self.total = done, total


async def extracted(document: Document) -> Extracted:
    """Raises ExtractionFailed, and OSError where the storage does not answer."""
    seen = _Seen()
    telling = asyncio.create_task(_keep_telling(document, seen))
    try:
        return await asyncio.to_thread(_extract, document, seen)
    finally:
        telling.cancel()


def _extract(document: Document, seen: _Seen) -> Extracted:
    try:
        # The parser reads a file of ours, wherever the storage keeps its own.
        with default_storage.open(document.stored) as source, tempfile.NamedTemporaryFile(prefix="parley-") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            told = recognition(document.language)
            return extract(Path(copy.name), document.media_type, tell=seen.tell, recognition=told)
    except FileNotFoundError as error:
        raise BytesGoneError from error


async def _keep_telling(document: Document, seen: _Seen) -> None:
    told = (0, 0)
    while True:
        await asyncio.sleep(TELL_EVERY)
        if told != (seen.done, seen.total):
            told = (seen.done, seen.total)
            with suppress(DatabaseError):  # the next step hears of it, too
                await unit(_write, document, *told)


def _write(document: Document, done: int, total: int) -> None:
    """Nothing, where this comes late or the document is no longer ours."""
    ours = Document.objects.for_tenant(document.tenant_id).filter(pk=document.pk, lease_token=document.lease_token)
    reading = ours.filter(status=Document.Status.EXTRACTING)
    reading.update(progress_done=done, progress_total=total, updated=timezone.now())
