"""The bytes of documents: measured before they are accepted, then kept under names that no user chose."""

from __future__ import annotations

import datetime
import errno
import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

import structlog
from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import connection
from django.utils import timezone

from apps.edge.errors import ServiceUnavailable
from apps.knowledge.models import TITLE_CHARS, Document, Tombstone
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from chatbot.errors import InvalidRequest, PayloadTooLarge, StorageFull

log = structlog.get_logger(__name__)

NAME_CHARS = 255
# How long a row may take to name what was stored for it; in the last minute it may not any more, as clocks differ.
PROMISE, LAST_MINUTE = datetime.timedelta(hours=1), datetime.timedelta(minutes=1)
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True)
class Measured:
    """size: bytes. sha256: hex."""

    size: int
    sha256: str


def measure(content: File[bytes]) -> Measured:
    """Read `content` through once. Raises PayloadTooLarge as soon as it proves too long, InvalidRequest if empty."""
    limit: int = settings.PARLEY_MAX_UPLOAD_BYTES
    digest, size = hashlib.sha256(), 0
    for part in content.chunks():
        size += len(part)
        if size > limit:
            raise too_large()
        digest.update(part)
    if not size:
        raise InvalidRequest(fields={"file": "The file is empty."})
    return Measured(size, digest.hexdigest())


def digest_of(content: File[bytes]) -> str:
    """Its SHA-256 in hex. Refuses nothing, as measure() does."""
    digest = hashlib.sha256()
    for part in content.chunks():
        digest.update(part)
    return digest.hexdigest()


def too_large(what: str = "A document", setting: str = "PARLEY_MAX_UPLOAD_BYTES") -> PayloadTooLarge:
    return PayloadTooLarge(f"{what} may have at most {getattr(settings, setting) / 2**20:.4g} MiB.")


def safe_name(name: str) -> str:
    """A file's name for people to read: without directories and control characters, its suffix kept."""
    base = PurePosixPath(name.replace("\\", "/")).name
    path = PurePosixPath("".join(char for char in base if char.isprintable()).strip())
    suffix = path.suffix[-20:]
    return f"{path.stem[: NAME_CHARS - len(suffix)]}{suffix}"


def title_of(name: str) -> str:
    """The title of a document that was given none: its file's name without the suffix."""
    return PurePosixPath(name).stem or "Untitled"


def is_own_title(document: Document) -> bool:
    """Whether nobody gave it a title: it has its file's name or its address instead."""
    address = document.source_url[:TITLE_CHARS]
    return document.title in {title_of(document.file_name), address} - {""}


def promised(tenant: Tenant, sha256: str) -> str:
    """A name for bytes that keep() is about to store and a row then names; should that never come, they are deleted.

    It is a new one that begins with their digest, also for bytes that are there already: whether they are is certain
    only in_turn(), when the row is written, and nothing is sent to a storage in a transaction.
    """
    name = f"documents/{tenant.pk}/{sha256}.{secrets.token_hex(4)}"
    Tombstone.objects.create(tenant=tenant, stored=name, created=timezone.now() + PROMISE)
    return name


def keep(name: str, content: File[bytes]) -> str:
    """Store the bytes under a promised name and return it. Raises StorageFull, leaving nothing behind."""
    try:
        return default_storage.save(name, content)
    except OSError as error:
        with suppress(OSError):  # what refused the bytes may refuse this, too
            discard(name)
        if error.errno in NO_ROOM:
            raise StorageFull from error
        raise


@contextmanager
def keeping(tenant: Tenant, content: File[bytes], sha256: str) -> Iterator[str]:
    """keep(), for a row that the block writes: the bytes go again where it does not. Raises ServiceUnavailable where
    the disk or the bucket does not answer."""
    with tenant_scope(tenant):
        name = promised(tenant, sha256)
    try:
        stored = keep(name, content)
    except OSError as error:
        log.warning("storage.unavailable", exc_info=error)
        raise ServiceUnavailable(retry_after=5) from error
    try:
        yield stored
    except BaseException:
        discard(stored)
        raise


def discard(stored: str) -> None:
    """Delete bytes that no row names; a document that was not fetched yet names none."""
    if stored:
        default_storage.delete(stored)


def in_turn(tenant: Tenant) -> None:
    """Before a transaction of the tenant locks rows and changes which bytes they name: until it has committed, no
    other one counts on bytes that this one lets go, or lets go what this one counts on."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(1431519562, hashtext(%s))", [str(tenant.pk)])


def claim(tenant: Tenant, stored: str) -> None:
    """In the transaction in which a row names bytes that were just stored. Raises ServiceUnavailable where that was so
    long ago that they may be gone."""
    good_until = timezone.now() + LAST_MINUTE
    if not Tombstone.objects.for_tenant(tenant).filter(stored=stored, created__gt=good_until).delete()[0]:
        raise ServiceUnavailable(retry_after=1)


def known_as(tenant: Tenant, sha256: str, stored: str) -> str:
    """The name that a row is to have for bytes that were just stored: the one of the same bytes, where the tenant has
    them already. Call it in_turn(). Raises as claim() does."""
    claim(tenant, stored)
    rows = Document.objects.for_tenant(tenant).filter(sha256=sha256).exclude(stored="")
    same: str | None = rows.values_list("stored", flat=True).first()
    return stored if same is None else same


def link(document: Document) -> str | None:
    """Where a bucket itself hands out the bytes for a short while; None where they are on our disk."""
    make = getattr(default_storage, "link", None)
    name = document.file_name or f"{document.title}.txt"
    return make(document.stored, name) if make else None
