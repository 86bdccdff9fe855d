"""Logos: small pictures that a browser draws and that can hold no script, kept in the storage like documents."""

from __future__ import annotations

import hashlib
import uuid

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction

from apps.widget.models import Widget
from chatbot.errors import InvalidRequest

MOST_BYTES = 128 * 1024
CACHED = "public, max-age=31536000, immutable"  # its address is its content's digest


def type_of(content: bytes) -> str | None:
    """The media type of a picture by its first bytes; None for what is none of ours, SVG among it."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return None


def check(content: bytes) -> None:
    """Raises InvalidRequest with a sentence for whoever chose the file."""
    if len(content) > MOST_BYTES:
        raise InvalidRequest(f"A logo may have {MOST_BYTES // 1024} KiB at most.")
    if type_of(content) is None:
        raise InvalidRequest("A logo is a PNG, JPEG or WebP picture, whatever its name says.")


def put(widget: Widget, content: bytes) -> None:
    """Give the widget this logo. Call it in the tenant's scope; the row is saved by the caller, in its transaction."""
    check(content)
    before = widget.logo
    stored = default_storage.save(f"widget/{widget.tenant_id}/{uuid.uuid4().hex}", ContentFile(content))
    widget.logo, widget.logo_digest = stored, hashlib.sha256(content).hexdigest()
    _discard(before)


def remove(widget: Widget) -> None:
    before, widget.logo, widget.logo_digest = widget.logo, "", ""
    _discard(before)


def _discard(stored: str) -> None:
    def discarding() -> None:  # a function with a name: Django wants to log one
        default_storage.delete(stored)

    if stored:
        transaction.on_commit(discarding, robust=True)
