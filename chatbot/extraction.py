"""A document's bytes to text. Parsers of untrusted formats run in a confined child process only.

The child (`python -m chatbot.extraction`) gets the file as its standard input and nothing else: no environment, no
network where the kernel lets it give that up, an unprivileged user where the parent is root, no file it may write, and
limits on processor time, memory and output. What it answers is data of its parent's choosing: numbered pages of text.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from chatbot import markdown
from chatbot.charsets import decoded, load_encodings
from chatbot.errors import ExtractionFailed
from chatbot.formats import (
    CSV,
    DOCX,
    EPUB,
    HTML,
    JPEG,
    MAIL,
    MARKDOWN,
    PDF,
    PNG,
    PPTX,
    TIFF,
    TSV,
    WEBP,
    XLSX,
)
from chatbot.readers import TooMuch, Unreadable
from chatbot.recognition import NotInstalled, Recognition
from chatbot.supervising import MARK, Limits, Tell, TooLarge, keep_to_oneself, supervise, too_much

# The module and function that read each format, in the child only.
_READERS = {
    PDF: ("pdf", "read"),
    DOCX: ("office", "read_docx"),
    PPTX: ("office", "read_pptx"),
    XLSX: ("sheets", "read_xlsx"),
    HTML: ("hypertext", "read"),
    EPUB: ("office", "read_epub"),
    MAIL: ("mail", "read"),
    CSV: ("sheets", "read_csv"),
    TSV: ("sheets", "read_tsv"),
    PNG: ("images", "count"),
    JPEG: ("images", "count"),
    WEBP: ("images", "count"),
    TIFF: ("images", "count"),
}
# What recognises the text of pages that turned out to have none.
_SCANS = dict.fromkeys((PNG, JPEG, WEBP, TIFF), "read_image") | {PDF: "read_pdf"}
_USUAL, _ANY = Limits(), Recognition()
_NOBODY = 65534
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h


class NoTextFound(ExtractionFailed):
    code = "empty"
    default_message = "No text was found in the file, nor in pictures of its pages."


@dataclass(frozen=True, slots=True)
class Page:
    """`number` is the page's place in the file, from 1; None where the format has no pages. `text` is Markdown."""

    number: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Extracted:
    pages: list[Page]
    title: str | None


def extract(
    path: Path,
    media_type: str,
    limits: Limits = _USUAL,
    tell: Tell = keep_to_oneself,
    recognition: Recognition = _ANY,
) -> Extracted:
    """The file's text, without NUL. Blocks until it is there. Raises ExtractionFailed with a sentence that says why.

    tell: called where the format has pages, and must not wait for anything: the child is being watched.
    """
    if media_type in _SCANS:
        return _with_scans(path, media_type, limits, tell, recognition)
    if media_type in _READERS:
        return _read(path, media_type, limits)
    # Decoding parses nothing, so it needs no walls.
    text = decoded(path.read_bytes()).replace("\x00", "").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise ExtractionFailed("The file is empty.")
    if len(text) > limits.output_chars:
        raise too_much(limits)
    if media_type == MARKDOWN:
        return Extracted([Page(None, text)], markdown.first_heading(text))
    return Extracted([Page(None, markdown.escape(text))], None)


def _read(
    path: Path, media_type: str, limits: Limits, tell: Tell = keep_to_oneself, scans: Sequence[str] = ()
) -> Extracted:
    """What the child reads of the file: all of it, or as `scans` names an engine, its languages, the text's own
    and then pages, the text of those as they look."""
    with path.open("rb") as file, tempfile.TemporaryDirectory(prefix="parley-extract-") as scratch:
        command = [sys.executable, "-m", "chatbot.extraction", media_type, str(limits.output_chars)]
        return _answer(supervise([*command, *scans], file, limits, scratch, tell), limits)


def _with_scans(path: Path, media_type: str, limits: Limits, tell: Tell, recognition: Recognition) -> Extracted:
    engine = recognition.found()
    if media_type != PDF and not engine:
        raise NotInstalled
    read = _read(path, media_type, limits, tell)
    pages = [page for page in read.pages if page.text]
    scanned = [page.number for page in read.pages if page.number and not page.text]
    if scanned and engine:
        if len(scanned) > limits.scans:
            raise TooLarge(
                f"The file holds {len(scanned):,} scanned pages. At most {limits.scans:,} can be read: split it."
            )
        seconds = limits.seconds + limits.scan_seconds * len(scanned)
        more = replace(limits, seconds=seconds, memory_mb=max(limits.memory_mb, limits.scan_memory_mb))
        known, total = len(pages), len(read.pages)
        scans = [engine, *recognition.words(), *map(str, scanned)]
        recognised = _read(path, media_type, more, lambda done, _: tell(known + done, total), scans)
        pages += [page for page in recognised.pages if page.text]
        pages.sort(key=lambda page: page.number or 0)
    elif scanned and not pages:
        raise NotInstalled
    if not pages:
        raise NoTextFound
    return Extracted(pages, read.title)


def _answer(output: bytes, limits: Limits) -> Extracted:
    """What the child wrote, taken as what it is: the word of a process that an attacker may have taken over."""
    try:
        answer = orjson.loads(output)
        if "error" in answer:
            message = str(answer["error"])[:300]
            raise TooLarge(message) if answer.get("too_large") else ExtractionFailed(message)
        pages = [
            Page(None if number is None else int(number), str(text).replace("\x00", ""))
            for number, text in answer["pages"]
        ]
        title = str(answer["title"])[:300].replace("\x00", "") if answer["title"] else None
    except (ValueError, TypeError, KeyError) as e:
        raise ExtractionFailed("The file could not be read: its reader gave no sensible answer.") from e
    if sum(len(page.text) for page in pages) > limits.output_chars:
        raise too_much(limits)
    return Extracted(pages, title)


def _main() -> None:
    """The child: a file on standard input, JSON on standard output."""
    libc = ctypes.CDLL(None, use_errno=True)
    # No network of its own. Refused in many containers, which is why it is not the only wall.
    libc.unshare(_CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET)
    media_type, limit = sys.argv[1], int(sys.argv[2])
    scans, scanned = sys.argv[3:6], [int(number) for number in sys.argv[6:]]
    name, function = ("scans", _SCANS[media_type]) if scanned else _READERS[media_type]
    reader = importlib.import_module(f"chatbot.readers.{name}")
    answer: dict[str, Any]
    try:
        if media_type in _SCANS:
            reader.warm_up(*scans)
        else:
            load_encodings()
        _confine(libc)
        data = sys.stdin.buffer.read()
        more = [scanned, _tell] if scanned else [_tell] if media_type == PDF else []
        pages, title = getattr(reader, function)(data, *more)
        answer = {"pages": pages, "title": title}
        if sum(len(text) for _, text in pages) > limit:
            answer = {"error": too_much(Limits(output_chars=limit)).message, "too_large": True}
    except Unreadable as e:
        answer = {"error": str(e), "too_large": isinstance(e, TooMuch)}
    sys.stdout.buffer.write(orjson.dumps(answer))
    sys.stdout.buffer.flush()
    os._exit(0)  # the parser's threads need no farewell


def _tell(done: int, total: int) -> None:
    sys.stdout.buffer.write(b"[%d,%d]%s" % (done, total, MARK))
    sys.stdout.buffer.flush()


def _confine(libc: ctypes.CDLL) -> None:
    """Before the first byte of the file is read: everything that needs rights is loaded."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Nobody watches the memory of an orphan. Set last: a change of user clears it.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    _main()
