"""A report as a file to take, however many lines it has."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import IO

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

from apps.tenants.models import Tenant
from apps.usage.export import MAX_ROWS, csv_of, head, table
from apps.usage.naming import OF_TENANTS, names_of
from apps.usage.reports import groups_in_chunks

IN_MEMORY = 1 << 20  # bytes; what is more lies on disk
PIECE = 1 << 16  # bytes that are sent at once


def as_csv(tenant: Tenant | None, first: dt.date, last: dt.date, by: str, *, user: str = "") -> StreamingHttpResponse:
    """CSV of as many groups as MAX_ROWS; the arguments are add_up()'s.

    It is written whole before its first byte is sent: a statement that fails is still an error of its own then, and
    whoever reads slowly holds no connection of the database. Nobody's memory holds more than a piece of it.
    """
    file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - open until it is sent
    try:
        for lines in _lines(tenant, first, last, by, user=user):
            file.write(csv_of(lines).encode())
        size = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    response = StreamingHttpResponse(_Pieces(file), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="usage-{first}-to-{last}-by-{by}.csv"'
    response["Content-Length"] = size
    return response


def _lines(
    tenant: Tenant | None, first: dt.date, last: dt.date, by: str, *, user: str
) -> Iterator[Iterable[Sequence[str]]]:
    whose: dict[str, str] | None = {} if tenant is None and by in OF_TENANTS else None
    yield [head(by, whose)]
    for groups in groups_in_chunks(tenant, first, last, by, user=user, most=MAX_ROWS):
        if whose is not None:
            whose = names_of("tenant", {group["tenant_id"] for group in groups})
        yield table(groups, whose)


class _Pieces:
    """What is sent; Django closes it, also where nobody has read to the end."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.close = file.close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await sync_to_async(self._file.read, thread_sensitive=False)(PIECE):
            yield piece
