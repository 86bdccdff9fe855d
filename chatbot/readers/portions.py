"""A long PDF in portions of pages, so that whoever reads it can tell how far it is.

What divides one comes with text recognition; without it, and for a PDF that it cannot open, there are no portions.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    import pypdfium2
except ModuleNotFoundError:
    pypdfium2 = None


class Indivisible(Exception):
    pass


PAGES = 50  # of a portion, which takes a second or less


def warm_up() -> None:
    """Load the native library and use it once, and the encoding of titles."""
    codecs.lookup("utf-16-le")
    if pypdfium2:
        with pypdfium2.PdfDocument.new() as document:
            document.new_page(72, 72)
            _part(document, range(1))


def about(data: bytes) -> tuple[str, int]:
    """The title that it gives itself, and its pages. Raises Indivisible, also where it is short."""
    with opened(data) as document:
        if len(document) <= PAGES:
            raise Indivisible
        return document.get_metadata_value("Title"), len(document)


def of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """How many pages come before each portion, and the portion as a PDF. Raises Indivisible."""
    with opened(data) as document:
        for begin in range(0, len(document), PAGES):
            yield begin, _part(document, range(begin, min(begin + PAGES, len(document))))


@contextmanager
def opened(data: bytes) -> Iterator[Any]:
    """The document, as what draws it has it. Raises Indivisible."""
    if not pypdfium2:
        raise Indivisible
    try:
        with pypdfium2.PdfDocument(data) as document:
            yield document
    except pypdfium2.PdfiumError as e:
        raise Indivisible from e


def _part(document: Any, numbers: range) -> bytes:
    out = io.BytesIO()
    with pypdfium2.PdfDocument.new() as part:
        part.import_pages(document, list(numbers))
        part.save(out)
    return out.getvalue()
