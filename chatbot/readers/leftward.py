"""Lines of Arabic and Hebrew in a PDF as they are read, by where their letters stand on the page.

A PDF paints letters; in which order it names those of a word is its program's business, and one file may do both. The
places are certain. What draws scanned pages tells them; without it such lines stay as they are found.
"""

from __future__ import annotations

import ctypes
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from chatbot.readers.portions import Indivisible, opened

_LEFTWARD = {"R", "AL"}
_NUMBER = {"EN", "AN"}
_WITHIN_NUMBERS = {"CS"}  # after Arabic letters; others stand between two numbers (UAX 9, W2 and W4)

Restore = Callable[[str], str]  # a line as it is read, of one as it was found


@dataclass(frozen=True, slots=True)
class _Sign:
    """Letters that are one picture: a ligature's in the order in which they are read."""

    text: str
    left: float
    right: float


def is_leftward(text: str) -> bool:
    return not text.isascii() and any(unicodedata.bidirectional(character) in _LEFTWARD for character in text)


def restorers(data: bytes, numbers: Iterable[int]) -> dict[int, Restore]:
    """For the lines of each of these pages."""
    found: dict[int, Restore] = {}
    with suppress(Indivisible), opened(data) as document:
        for number in numbers:
            words = _words(document[number - 1].get_textpage())
            found[number] = partial(_restored, {_key(line): line for line in map(_read, words)})
    return found


def _restored(known: dict[str, str], line: str) -> str:
    return known.get(_key(line), line) if is_leftward(line) else line


def _key(line: str) -> str:
    """The same for each order of its letters, and whichever way its brackets are turned."""
    return "".join(sorted(filter(str.isalnum, line)))


def _words(page: Any) -> Iterator[list[list[_Sign]]]:
    """Of each line: which letters are a word is certain, unlike their order. Spaces stand anywhere."""
    from pypdfium2 import raw as pdfium  # noqa: PLC0415 - it is there, since the page was opened

    line: list[list[_Sign]] = [[]]
    box = [ctypes.c_double() for _ in range(4)]
    for index in range(page.count_chars()):
        text = chr(pdfium.FPDFText_GetUnicode(page, index))
        if text == "\n":
            yield line
            line = [[]]
        elif text.isspace():
            line.append([])
        else:
            pdfium.FPDFText_GetCharBox(page, index, *map(ctypes.byref, box))
            left, right = box[0].value, box[1].value
            last = line[-1][-1] if line[-1] else None
            if last and ((last.left, last.right) == (left, right) or unicodedata.combining(text)):
                line[-1][-1] = _Sign(last.text + text, last.left, last.right)
            else:
                line[-1].append(_Sign(text, left, right))
    yield line


def _read(words: list[list[_Sign]]) -> str:
    """From the right, but for numbers and words that are read from the left."""
    placed: list[str] = []
    for word in sorted(filter(None, words), key=lambda word: -max(sign.right for sign in word)):
        placed += [sign.text for sign in sorted(word, key=lambda sign: -(sign.left + sign.right))]
        placed.append(" ")
    out: list[str] = []
    run: list[str] = []
    for text, kind in zip(placed, _kinds(placed), strict=True):
        if kind in {">", "#"}:
            run.insert(0, text)
            continue
        out += [*run, text]
        run = []
    return "".join([*out, *run]).strip()


def _kinds(placed: list[str]) -> list[str]:
    kinds = [_kind(text) for text in placed]
    # A number to the right of a Latin word goes with it, as in "P-40".
    strong = "<"
    for at in reversed(range(len(kinds))):
        if kinds[at] == "#" and strong == ">":
            kinds[at] = ">"
        strong = kinds[at] if kinds[at] in "<>" else strong
    # What stands between two signs of a word or number that is read from the left belongs to it.
    for at, kind in enumerate(kinds):
        if kind == "?" and at:
            before, after = kinds[at - 1], next((other for other in kinds[at:] if other != "?"), "<")
            if before == after == ">" or (before == after == "#" and _joins(placed[at])):
                kinds[at] = before
    return kinds


def _kind(text: str) -> str:
    """< and > for the way it is read, # for a digit, ? for what goes with its neighbours."""
    name = unicodedata.bidirectional(text[0])
    return "<" if name in _LEFTWARD else ">" if name == "L" else "#" if name in _NUMBER else "?"


def _joins(text: str) -> bool:
    return unicodedata.bidirectional(text[0]) in _WITHIN_NUMBERS
