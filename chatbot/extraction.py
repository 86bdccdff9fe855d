"""A document's bytes to text. Parsers of untrusted formats run in a confined child process only.

The child (`python -m chatbot.extraction`) gets the file as its standard input and nothing else: no environment, no
network where the kernel lets it give that up, an unprivileged user where the parent is root, no file it may write, and
limits on processor time, memory and output. What it answers is data of its parent's choosing: numbered pages of text.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import math
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import orjson

from chatbot import markdown
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
    decoded,
    load_encodings,
)
from chatbot.readers import TooMuch, Unreadable

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
_ROOT = Path(__file__).resolve().parent.parent
_NOBODY = 65534
_MARK = b"\x1e"  # ends what a child tells before its answer; JSON never holds it as it is
_MOST_PAGES = 1_000_000  # that a child is believed to be at
_POLL = 0.05  # seconds between two looks at the child's memory
_WALL = 4  # how much longer than its processor time a child may take: workers share cores
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h


class TooLarge(ExtractionFailed):
    code = "too_large"
    default_message = "The file holds more than can be read."


class NoTextFound(ExtractionFailed):
    code = "empty"
    default_message = "No text was found in the file, nor in pictures of its pages."


@dataclass(frozen=True, slots=True)
class Limits:
    """seconds: of processor time. memory_mb: resident, looked at every 50 ms; not of address space, which native
    libraries reserve freely. output_chars: of all pages together. scans: how many pages may be images of text, each of
    which adds scan_seconds.
    """

    seconds: float = 30.0
    memory_mb: int = 512
    output_chars: int = 20_000_000
    scans: int = 200
    scan_seconds: float = 8.0
    scan_memory_mb: int = 1024


@dataclass(frozen=True, slots=True)
class Page:
    """`number` is the page's place in the file, from 1; None where the format has no pages. `text` is Markdown."""

    number: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Extracted:
    pages: list[Page]
    title: str | None


Tell = Callable[[int, int], None]  # how many pages are read, of how many


def _keep_to_oneself(done: int, total: int) -> None:
    pass


def extract(path: Path, media_type: str, limits: Limits = Limits(), tell: Tell = _keep_to_oneself) -> Extracted:
    """The file's text, without NUL. Blocks until it is there. Raises ExtractionFailed with a sentence that says why.

    tell: called where the format has pages, and must not wait for anything: the child is being watched.
    """
    if media_type in _SCANS:
        return _with_scans(path, media_type, limits, tell)
    if media_type in _READERS:
        return _read(path, media_type, limits)
    # Decoding parses nothing, so it needs no walls.
    text = decoded(path.read_bytes()).replace("\x00", "").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise ExtractionFailed("The file is empty.")
    if len(text) > limits.output_chars:
        raise _too_much(limits)
    if media_type == MARKDOWN:
        return Extracted([Page(None, text)], markdown.first_heading(text))
    return Extracted([Page(None, markdown.escape(text))], None)


def _read(
    path: Path, media_type: str, limits: Limits, tell: Tell = _keep_to_oneself, scanned: Sequence[int] = ()
) -> Extracted:
    """What the child reads of the file: all of it, or the text of the `scanned` pages as they look."""
    with path.open("rb") as file, tempfile.TemporaryDirectory(prefix="parley-extract-") as scratch:
        command = [sys.executable, "-m", "chatbot.extraction", media_type, str(limits.output_chars)]
        return _answer(_supervise([*command, *map(str, scanned)], file, limits, scratch, tell), limits)


def can_read_scans() -> bool:
    """Whether what recognises text is installed, which is looked for and not loaded."""
    return all(importlib.util.find_spec(name) for name in ("rapidocr", "onnxruntime", "pypdfium2", "PIL"))


def _with_scans(path: Path, media_type: str, limits: Limits, tell: Tell) -> Extracted:
    if media_type != PDF and not can_read_scans():
        raise ExtractionFailed("Reading an image needs text recognition (OCR), which is not installed here.")
    read = _read(path, media_type, limits, tell)
    pages = [page for page in read.pages if page.text]
    scanned = [page.number for page in read.pages if page.number and not page.text]
    if scanned and can_read_scans():
        if len(scanned) > limits.scans:
            raise TooLarge(
                f"The file holds {len(scanned):,} scanned pages. At most {limits.scans:,} can be read: split it."
            )
        seconds = limits.seconds + limits.scan_seconds * len(scanned)
        more = replace(limits, seconds=seconds, memory_mb=max(limits.memory_mb, limits.scan_memory_mb))
        known, total = len(pages), len(read.pages)
        recognised = _read(path, media_type, more, lambda done, _: tell(known + done, total), scanned)
        pages += [page for page in recognised.pages if page.text]
        pages.sort(key=lambda page: page.number or 0)
    elif scanned and not pages:
        raise ExtractionFailed(
            "This PDF holds no text. Scanned pages need text recognition (OCR), which is not installed."
        )
    if not pages:
        raise NoTextFound
    return Extracted(pages, read.title)


def _too_much(limits: Limits) -> TooLarge:
    return TooLarge(f"The file holds more than {limits.output_chars:,} characters of text.")


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
        raise _too_much(limits)
    return Extracted(pages, title)


def _supervise(
    command: list[str], file: IO[bytes], limits: Limits, scratch: str, tell: Tell = _keep_to_oneself
) -> bytes:
    """Run `command` on the file within the limits and return its output. Raises ExtractionFailed."""
    environment = {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "TMPDIR": scratch,
        "RAYON_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command,
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=_ROOT,
        env=environment,
        process_group=0,
    )
    assert child.stdout is not None  # noqa: S101 - for the type checker: stdout=PIPE
    try:
        seconds = math.ceil(limits.seconds)
        resource.prlimit(child.pid, resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.prlimit(child.pid, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (64, 64))
        output = _watched(child, child.stdout, limits, tell)
    finally:
        # The leader is not reaped yet, so its group cannot be another's.
        os.killpg(child.pid, signal.SIGKILL)
        child.stdout.close()
        child.wait()
    if child.returncode == -signal.SIGXCPU:
        raise TooLarge(f"Reading the file took longer than {limits.seconds:g} seconds.")
    if child.returncode != 0:
        raise ExtractionFailed("The file made its reader crash; it may be damaged.")
    return output


def _watched(child: subprocess.Popen[bytes], stdout: IO[bytes], limits: Limits, tell: Tell) -> bytes:
    """The child's output, once it has exited; it is left unreaped. Raises ExtractionFailed where it exceeds a limit."""
    deadline = time.monotonic() + limits.seconds * _WALL
    output = bytearray()
    closed = False
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while not (closed and os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)):
            if time.monotonic() > deadline:
                raise TooLarge(f"Reading the file took longer than {limits.seconds * _WALL:g} seconds.")
            if _resident_mb(child.pid) > limits.memory_mb:
                raise TooLarge(f"Reading the file took more than {limits.memory_mb:,} MB of memory.")
            # JSON takes 6 bytes for a control character and UTF-8 4 for the widest.
            if len(output) > limits.output_chars * 6 + 65536:
                raise _too_much(limits)
            if closed:
                time.sleep(0.001)
            elif selector.select(_POLL):
                piece = os.read(stdout.fileno(), 1 << 20)
                output += piece
                closed = not piece
                if _MARK in piece:
                    _pass_on(output, tell)
    return bytes(output)


def _pass_on(output: bytearray, tell: Tell) -> None:
    """Take off the output what says how far the child is; the last of it counts."""
    marked, _, rest = output.rpartition(_MARK)
    output[:] = rest
    with suppress(ValueError, TypeError):
        done, total = map(int, orjson.loads(marked.rpartition(_MARK)[2]))
        if 0 <= done <= total <= _MOST_PAGES:
            tell(done, total)


def _resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0.0  # it has just exited
    return pages * resource.getpagesize() / 2**20


def _main() -> None:
    """The child: a file on standard input, JSON on standard output."""
    libc = ctypes.CDLL(None, use_errno=True)
    # No network of its own. Refused in many containers, which is why it is not the only wall.
    libc.unshare(_CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET)
    media_type, limit = sys.argv[1], int(sys.argv[2])
    scanned = [int(number) for number in sys.argv[3:]]
    name, function = ("scans", _SCANS[media_type]) if scanned else _READERS[media_type]
    reader = importlib.import_module(f"chatbot.readers.{name}")
    if media_type in _SCANS:
        reader.warm_up()
    else:
        load_encodings()
    _confine(libc)
    answer: dict[str, Any]
    try:
        data = sys.stdin.buffer.read()
        more = [scanned, _tell] if scanned else [_tell] if media_type == PDF else []
        pages, title = getattr(reader, function)(data, *more)
        answer = {"pages": pages, "title": title}
        if sum(len(text) for _, text in pages) > limit:
            answer = {"error": _too_much(Limits(output_chars=limit)).message, "too_large": True}
    except Unreadable as e:
        answer = {"error": str(e), "too_large": isinstance(e, TooMuch)}
    sys.stdout.buffer.write(orjson.dumps(answer))
    sys.stdout.buffer.flush()
    os._exit(0)  # the parser's threads need no farewell


def _tell(done: int, total: int) -> None:
    sys.stdout.buffer.write(b"[%d,%d]%s" % (done, total, _MARK))
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
