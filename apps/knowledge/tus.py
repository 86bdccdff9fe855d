"""The protocol of resumable uploads, tus 1.0.0 (https://tus.io/protocols/resumable-upload): its headers, both ways.

Both doors speak it, the API and the admin; of its extensions creation, termination and expiration.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from django.core.files.base import File
from django.http import HttpRequest
from django.utils.http import http_date

from apps.edge.errors import TUS_VERSION, VersionNotSupported
from apps.knowledge import storage, uploads
from apps.knowledge.models import Collection, Upload
from apps.knowledge.several import Arrival
from apps.tenants.models import Tenant, User
from chatbot.errors import InvalidRequest, PayloadTooLarge, StorageFull, UnsupportedType

MEDIA_TYPE = "application/offset+octet-stream"
_PIECE = 1 << 16  # bytes read at a time


def check_version(request: HttpRequest) -> None:
    """Raises VersionNotSupported. Who names no version speaks no tus, and is understood."""
    if request.headers.get("Tus-Resumable", TUS_VERSION) != TUS_VERSION:
        raise VersionNotSupported


def begun(request: HttpRequest, tenant: Tenant, collection: Collection, user: User | None = None) -> Upload:
    """The upload that a request announces. Call it in the tenant's scope. Raises as uploads.begin() does."""
    said = metadata_of(request)
    return uploads.begin(
        tenant,
        collection,
        name=said.get("filename", ""),
        size=_number(request, "Upload-Length"),
        title=said.get("title", ""),
        language=said.get("language", ""),
        sha256=said.get("sha256", ""),
        created_by=user,
    )


def continued(request: HttpRequest, tenant: Tenant, upload: Upload) -> list[Arrival]:
    """With the request's body; what became of the file, once it is whole. Raises as uploads.append() does, and
    UnsupportedType and InvalidRequest for what is no piece."""
    if request.content_type != MEDIA_TYPE:
        raise UnsupportedType(f"Pieces come as {MEDIA_TYPE}.")
    offset = _number(request, "Upload-Offset")
    if _number(request, "Content-Length") > upload.size - min(offset, upload.size):
        raise PayloadTooLarge(f"There are more bytes than were announced, which is {upload.size:,}.")
    with _received(request) as piece:
        return uploads.append(tenant, upload, offset, piece)


def metadata_of(request: HttpRequest) -> Mapping[str, str]:
    """What is said of the file: names, each with a value in base64. Raises InvalidRequest."""
    found: dict[str, str] = {}
    for pair in filter(None, map(str.strip, request.headers.get("Upload-Metadata", "").split(","))):
        name, _, value = pair.partition(" ")
        try:
            found[name] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise InvalidRequest(fields={"Upload-Metadata": f"{name}: its value is no base64 of UTF-8."}) from error
    return found


@contextmanager
def _received(request: HttpRequest) -> Iterator[File[bytes]]:
    with tempfile.NamedTemporaryFile(prefix="parley-") as copy:
        try:
            while part := request.read(_PIECE):
                copy.write(part)
            copy.flush()
        except OSError as error:
            if error.errno in storage.NO_ROOM:
                raise StorageFull from error
            raise
        yield File(copy)


def headers_of(upload: Upload) -> dict[str, str]:
    return {
        "Tus-Resumable": TUS_VERSION,
        "Upload-Offset": str(upload.offset),
        "Upload-Length": str(upload.size),
        "Upload-Expires": http_date(upload.expires.timestamp()),
        "Cache-Control": "no-store",
    }


def _number(request: HttpRequest, header: str) -> int:
    text = request.headers.get(header, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidRequest(fields={header: "Send a number of bytes."})
    return int(text)
