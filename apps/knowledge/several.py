"""Several documents of one request: its files, and those in its ZIP archives. Each is taken or refused by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from django.conf import settings
from django.core.files.base import File

from apps.edge.errors import ServiceUnavailable
from apps.knowledge.ingest import add_document
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant, User
from chatbot import bundles
from chatbot.errors import NotFound, ParleyError, PayloadTooLarge, StorageFull, UnsupportedType

# All that an archive may unpack to, in times of what one document may have.
UNPACKED = 4


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became of a file: its document, which may have been there already, or why it was refused."""

    name: str
    document: Document | None = None
    added: bool = False
    refusal: ParleyError | None = None


def is_several(files: Sequence[File[bytes]]) -> bool:
    return len(files) > 1 or any((file.name or "").lower().endswith(bundles.SUFFIX) for file in files)


def add_several(
    tenant: Tenant,
    collection: Collection,
    files: Sequence[File[bytes]],
    *,
    language: str = "",
    created_by: User | None = None,
) -> list[Arrival]:
    """Raises NotFound for a lost collection, StorageFull and ServiceUnavailable: those concern every file, and what is
    in stays."""
    add = partial(add_document, tenant, collection, language=language, created_by=created_by)
    return [arrival for file in files for arrival in _arrivals(file, add)]


def _arrivals(file: File[bytes], add: Callable[..., tuple[Document, bool]]) -> Iterator[Arrival]:
    name = file.name or ""
    if not name.lower().endswith(bundles.SUFFIX):
        yield _taken(name, file, add)
        return
    limit = settings.PARLEY_MAX_UPLOAD_BYTES
    try:
        for member in bundles.members(file, max_bytes=limit, max_total=limit * UNPACKED):
            if member.refusal:
                yield Arrival(member.name, refusal=member.refusal)
            else:
                yield _taken(member.name, member.content, add)
    except (UnsupportedType, PayloadTooLarge) as error:
        yield Arrival(name, refusal=error)


def _taken(name: str, content: File[bytes] | bytes, add: Callable[..., tuple[Document, bool]]) -> Arrival:
    try:
        document, added = add(name=name, content=content)
    except (NotFound, StorageFull, ServiceUnavailable):
        raise
    except ParleyError as error:
        return Arrival(name, refusal=error)
    return Arrival(name, document, added)
