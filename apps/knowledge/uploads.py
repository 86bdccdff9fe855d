"""Large files in pieces, which go on after a lost connection: begun, added to piece by piece, whole, or given up.

Each piece lies in the storage by itself, which every replica reaches, so no disk has to be shared. The row says how
many bytes have come, and only what is stored counts. The last piece counts when the document is made: whoever finds an
upload whole finds its document, too.
"""

from __future__ import annotations

import datetime
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db.models import F, QuerySet
from django.utils import timezone

from apps.edge.errors import ServiceUnavailable
from apps.knowledge import forgetting, ingest, storage
from apps.knowledge.models import Collection, Upload
from apps.knowledge.several import Arrival, add_several, is_several
from apps.tenants import lookups
from apps.tenants.models import Tenant, User
from apps.tenants.scoping import tenant_scope
from apps.usage import keeping
from chatbot import bundles
from chatbot.errors import (
    InvalidRequest,
    NotFound,
    OffsetConflict,
    PayloadTooLarge,
    StorageFull,
    UnsupportedType,
)
from chatbot.formats import media_type_of
from chatbot.languages import LANGUAGES

log = structlog.get_logger(__name__)

LIFETIME = datetime.timedelta(hours=24)  # since the last piece
UNTOUCHED = datetime.timedelta(hours=1)  # until the first one: what promises alone take is free again soon
MOST_PARTS = 1000  # of an upload
# Each piece but the last has so many bytes, or one in so many of the file's: little quota must not buy many deletions.
LEAST_PIECE, LEAST_PART = 1 << 20, 10
MOST_OPEN = 100  # uploads of a tenant that are not whole
_SHA256 = re.compile(r"[0-9a-f]{64}")


def begin(
    tenant: Tenant,
    collection: Collection,
    *,
    name: str,
    size: int,
    title: str = "",
    language: str = "",
    sha256: str = "",
    created_by: User | None = None,
) -> Upload:
    """An upload without a byte yet, which counts as kept from now on. sha256: in hex, of the whole file; empty if not
    known. language: as in ingest.add_document(). Call it in the tenant's scope.

    Raises InvalidRequest (with fields), UnsupportedType, PayloadTooLarge, and QuotaExceeded where the tenant may keep
    no more.
    """
    title, name, sha256 = ingest.checked_title(title), storage.safe_name(name), sha256.lower()
    if not name.lower().endswith(bundles.SUFFIX):
        media_type_of(name)
    elif title:
        raise InvalidRequest(fields={"title": "Several files cannot have one title. Leave it out."})
    if language not in ("", *LANGUAGES):
        raise InvalidRequest(fields={"language": f"Use one of {', '.join(LANGUAGES)}, or leave it out."})
    if not size:
        raise InvalidRequest(fields={"file": "The file is empty."})
    if size > settings.PARLEY_MAX_UPLOAD_BYTES:
        raise storage.too_large()
    if sha256 and not _SHA256.fullmatch(sha256):
        raise InvalidRequest(fields={"sha256": "Use 64 hexadecimal digits."})
    keeping.refuse_beyond(tenant, collection.pk, exactly=True, documents=1, bytes=size)
    if unfinished(tenant).count() >= MOST_OPEN:
        raise InvalidRequest(f"There are {MOST_OPEN} unfinished uploads. Finish some, or give them up.")
    upload: Upload = Upload.objects.create(
        tenant=tenant,
        collection=collection,
        file_name=name,
        title=title,
        language=language,
        size=size,
        promised=size,
        sha256=sha256,
        created_by=created_by,
        expires=timezone.now() + UNTOUCHED,
    )
    return upload


def unfinished(tenant: Tenant) -> QuerySet[Upload]:
    """Those that are not whole, newest first; also what has expired, for as long as it is there."""
    rows: QuerySet[Upload] = Upload.objects.for_tenant(tenant).filter(offset__lt=F("size"))
    return rows


def find_upload(tenant: Tenant, upload_id: uuid.UUID, collection: Collection | None = None) -> Upload:
    """collection: the one that it has to be for. Raises NotFound, also for another tenant's and what is given up."""
    rows = _rows(tenant, upload_id).filter(expires__gt=timezone.now()).select_related("collection")
    upload: Upload | None = (rows.filter(collection=collection) if collection else rows).first()
    if upload is None:
        raise NotFound
    return upload


def append(tenant: Tenant, upload: Upload, offset: int, piece: File[bytes]) -> list[Arrival]:
    """Store the piece that begins at `offset`; what became of the file with its last one. Updates `upload`. Takes no
    transaction.

    piece: no longer than what is missing. Raises OffsetConflict where the upload has come to another byte, also while
    this was stored. With the last piece it raises as add_document does. What then cannot succeed later gives
    the upload up; otherwise the piece may be sent again.
    """
    if offset != upload.offset:
        raise OffsetConflict
    size = piece.size
    if not size:
        return []
    if offset + size == upload.size:
        arrivals = _complete(tenant, upload, piece)
    else:
        _keep(tenant, upload, piece)
        arrivals = []
    upload.offset += size
    return arrivals


def give_up(tenant: Tenant, upload: Upload) -> None:
    """Delete it and its bytes. Documents that were made of it stay."""
    _delete(tenant, _rows(tenant, upload.pk))


def forget_expired() -> None:
    """Give up those of all tenants that nobody goes on with, and the rows of those that became whole."""
    for (tenant_id,) in lookups.call("tenants_with_expired_uploads", timezone.now()):
        with tenant_scope(tenant_id):
            rows = Upload.objects.for_tenant(tenant_id)
            # What somebody adds to at this moment does not expire.
            found = list(rows.filter(expires__lte=timezone.now()).select_for_update(skip_locked=True))
            forgetting.leave(tenant_id, *(name for upload in found for name in upload.parts))
            rows.filter(pk__in=[upload.pk for upload in found]).delete()
        log.info("uploads.expired", tenant=str(tenant_id), uploads=len(found))


def _rows(tenant: Tenant, upload_id: uuid.UUID) -> Any:
    return Upload.objects.for_tenant(tenant).filter(pk=upload_id)


def _delete(tenant: Tenant, rows: Any) -> bool:
    with tenant_scope(tenant):
        row = rows.select_for_update().first()
        if row:
            forgetting.let_go(tenant, *row.parts)
            row.delete()
    return row is not None


def _keep(tenant: Tenant, upload: Upload, piece: File[bytes]) -> None:
    if len(upload.parts) >= MOST_PARTS:
        raise InvalidRequest(f"An upload has {MOST_PARTS:,} pieces at most. Begin again with larger ones.")
    least = min(LEAST_PIECE, upload.size // LEAST_PART)
    if piece.size < least:
        raise InvalidRequest(f"Each piece of this upload, but the last, has {least:,} bytes at least.")
    with storage.keeping(tenant, piece, storage.digest_of(piece)) as stored, tenant_scope(tenant):
        storage.claim(tenant, stored)
        # Its size counts again where a process died in the middle of an archive.
        parts = [*upload.parts, stored]
        _move(tenant, upload, offset=upload.offset + piece.size, promised=upload.size, parts=parts)


def _complete(tenant: Tenant, upload: Upload, piece: File[bytes]) -> list[Arrival]:
    try:
        with _assembled(upload, piece) as whole:
            return _become_documents(tenant, upload, whole)
    except (UnsupportedType, PayloadTooLarge, InvalidRequest, NotFound) as error:
        # Where the same piece came twice, the pieces are gone because the other one made the file whole.
        if not _delete(tenant, _rows(tenant, upload.pk).filter(offset=upload.offset)):
            raise OffsetConflict from error
        raise


@contextmanager
def _assembled(upload: Upload, piece: File[bytes]) -> Iterator[File[bytes]]:
    """The whole file. Raises NotFound where pieces are gone, InvalidRequest where it is not the announced one, and
    StorageFull."""
    with tempfile.NamedTemporaryFile(prefix="parley-") as whole:
        try:
            for name in upload.parts:
                with default_storage.open(name) as part:
                    shutil.copyfileobj(part, whole)
            piece.seek(0)
            shutil.copyfileobj(piece, whole)
            whole.flush()
        except FileNotFoundError as error:
            raise NotFound("Pieces of this upload are gone. Begin again.") from error
        except OSError as error:
            if error.errno in storage.NO_ROOM:
                raise StorageFull from error
            raise ServiceUnavailable(retry_after=5) from error
        file: File[bytes] = File(whole, name=upload.file_name)
        if upload.sha256 and storage.digest_of(file) != upload.sha256:
            raise InvalidRequest(fields={"sha256": "The bytes that came have another digest. Begin again."})
        yield file


def _become_documents(tenant: Tenant, upload: Upload, whole: File[bytes]) -> list[Arrival]:
    if is_several([whole]):
        return _unpacked(tenant, upload, whole)
    document, added = ingest.add_document(
        tenant,
        upload.collection,
        name=upload.file_name,
        content=whole,
        title=upload.title,
        language=upload.language,
        created_by=upload.created_by,
        fulfil=lambda document: _finish(tenant, upload, [Arrival(upload.file_name, document, added=True)]),
    )
    arrivals = [Arrival(upload.file_name, document, added)]
    if not added:
        with tenant_scope(tenant):
            _finish(tenant, upload, arrivals)
    return arrivals


def _unpacked(tenant: Tenant, upload: Upload, whole: File[bytes]) -> list[Arrival]:
    """What it unpacks to is counted instead of the archive; whatever cuts that short, the archive counts again."""
    with tenant_scope(tenant):
        _rows(tenant, upload.pk).update(promised=0)
    try:
        arrivals = add_several(
            tenant, upload.collection, [whole], language=upload.language, created_by=upload.created_by
        )
        with tenant_scope(tenant):
            _finish(tenant, upload, arrivals)
    except BaseException:
        with tenant_scope(tenant):
            _rows(tenant, upload.pk).filter(offset=upload.offset).update(promised=upload.size)
        raise
    return arrivals


def _finish(tenant: Tenant, upload: Upload, arrivals: list[Arrival]) -> None:
    results = [_remembered(arrival) for arrival in arrivals]
    _move(tenant, upload, offset=upload.size, promised=0, parts=[], results=results)
    forgetting.let_go(tenant, *upload.parts)


def _move(tenant: Tenant, upload: Upload, **fields: Any) -> None:
    """Raises OffsetConflict where somebody else's piece, or the end of the upload, came first."""
    rows = _rows(tenant, upload.pk).filter(offset=upload.offset)
    if not rows.update(**fields, expires=timezone.now() + LIFETIME):
        raise OffsetConflict


def _remembered(arrival: Arrival) -> dict[str, Any]:
    refusal = arrival.refusal
    return {
        "file_name": arrival.name,
        "added": arrival.added,
        "document": str(arrival.document.pk) if arrival.document else None,
        "refusal": refusal and {"code": refusal.code, "message": refusal.sentence},
    }
