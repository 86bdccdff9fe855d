"""Lines of a document that are not its text: running headers, page numbers, tables of contents."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

_EDGE_LINES = 2  # at the top and the bottom of a page, where running headers and page numbers stand
_EDGE_LENGTH = 100  # characters; what is longer is text
_REPEATS = 3  # pages
_FRONT = 40  # pages that may be numbered in Roman numerals
_CONTENTS_LINES = 4  # lines with dot leaders that make a page one of contents
_FEWEST_DOTS = 2  # that lead to a page number; most lines have less, and need not be searched
_PART = 3  # characters of a line that may be a part of a heading

_CONTENTS = re.compile(r"(?:\s?\.){3,}\s*\w{1,5}\s*\Z|(?:\s\.){2,}\s*\w{1,5}\s*\Z")
_ENDS_IN_NUMBER = re.compile(r"\s\d{1,4}\s*\Z")
_EDGE_NUMBER = re.compile(r"\A\d{1,4}\b|\b\d{1,4}\Z")
_PAGE_LABEL = re.compile(r"page\s+\d{1,4}(?:\s*(?:/|of)\s*\d{1,4})?|\d{1,4}\s*(?:/|of)\s*\d{1,4}", re.IGNORECASE)
_ROMAN = re.compile(r"[ivxlc]{1,7}", re.IGNORECASE)
_NEITHER = re.compile(r"[\W_]+")  # letters nor digits

Pages = Mapping[int, Sequence[str]]  # the lines of each page, by its place in the file


def is_contents(line: str) -> bool:
    """An entry of a table of contents: dots that lead to a page number."""
    return line.count(".") >= _FEWEST_DOTS and bool(_CONTENTS.search(line))


def without_furniture(pages: Pages, headings: Mapping[int, Sequence[str]]) -> dict[int, list[str]]:
    """The pages with only the lines that are text. `headings`, by page, are what is set large: it stays, but for a
    title that stands on page after page.
    """
    offset = label_offset(pages)
    repeated = Counter(text for lines in pages.values() for text in {lines[at].strip() for at in _edges(lines)})

    def is_furniture(number: int, line: str) -> bool:
        parts = [heading for heading in headings.get(number, ()) if _is_part(line, heading)]
        if repeated[line] >= _REPEATS and all(len(heading) <= len(line) for heading in parts):
            return True
        return not parts and _is_label(line, number, offset)

    cleaned = {}
    for number, lines in pages.items():
        drop = {at for at in _edges(lines) if is_furniture(number, lines[at].strip())}
        if sum(map(is_contents, lines)) >= _CONTENTS_LINES:
            drop |= {at for at, line in enumerate(lines) if is_contents(line) or _ENDS_IN_NUMBER.search(line)}
        cleaned[number] = [line for at, line in enumerate(lines) if at not in drop]
    return cleaned


def key(text: str) -> str:
    """What two settings of the same line have in common: letters and digits. Of joined lines, it is theirs joined."""
    return _NEITHER.sub("", text.casefold())


def _is_part(line: str, heading: str) -> bool:
    part = key(line)
    return part == key(heading) or (len(part) >= _PART and part in key(heading))


def _is_label(line: str, number: int, offset: int | None) -> bool:
    """A page number, alone or at either end of a short line."""
    if _PAGE_LABEL.fullmatch(line) or (number <= _FRONT and _ROMAN.fullmatch(line)):
        return True
    numbers = [int(found) for found in _EDGE_NUMBER.findall(line)] if len(line) <= _EDGE_LENGTH else []
    return offset is not None and number - offset in numbers


def _edges(lines: Sequence[str]) -> list[int]:
    """Where on a page the outermost lines with text are."""
    filled = [at for at, line in enumerate(lines) if line.strip()]
    return sorted({*filled[:_EDGE_LINES], *filled[-_EDGE_LINES:]})


def label_offset(pages: Pages) -> int | None:
    """How far the printed page numbers are behind the pages' places, where enough pages agree."""
    offsets = Counter(
        number - int(found)
        for number, lines in pages.items()
        for at in _edges(lines)
        for found in _EDGE_NUMBER.findall(lines[at].strip())
    )
    # Not most_common(): it imports heapq when called, and a confined child can no longer read the standard library.
    best, times = max(offsets.items(), key=lambda item: item[1], default=(0, 0))
    return best if times >= max(_REPEATS, len(pages) // 4) else None
