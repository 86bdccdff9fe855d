"""Watches over a child process that reads a file: within limits of time, memory and output, and gone when it ends.

It gets the file as its standard input, and no environment. Of other rights it deprives itself (extraction.py).
"""

from __future__ import annotations

import math
import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson

from chatbot.errors import ExtractionFailed

MARK = b"\x1e"  # ends what a child tells before its answer; JSON never holds it as it is
_MOST_PAGES = 1_000_000  # that a child is believed to be at
_POLL = 0.05  # seconds between two looks at the child's memory
_WALL = 4  # how much longer than its processor time a child may take: workers share cores
_ROOT = Path(__file__).resolve().parent.parent


class TooLarge(ExtractionFailed):
    code = "too_large"
    default_message = "The file holds more than can be read."


class ReaderKilled(ExtractionFailed):
    """Not by us, and not for what the file is: mostly by a kernel that was short of memory. Read it again later."""

    code = "interrupted"
    default_message = "Reading the file was interrupted. Try again in a moment."


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


Tell = Callable[[int, int], None]  # how many pages are read, of how many


def keep_to_oneself(done: int, total: int) -> None:
    pass


def too_much(limits: Limits) -> TooLarge:
    return TooLarge(f"The file holds more than {limits.output_chars:,} characters of text.")


def supervise(command: list[str], file: IO[bytes], limits: Limits, scratch: str, tell: Tell = keep_to_oneself) -> bytes:
    """Run `command` on the file within the limits and return its output. Raises ExtractionFailed."""
    environment = {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "TMPDIR": scratch,
        "RAYON_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_THREAD_LIMIT": "1",
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
    if child.returncode == -signal.SIGKILL:  # before ours, which is sent to what has exited
        raise ReaderKilled
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
                raise too_much(limits)
            if closed:
                time.sleep(0.001)
            elif selector.select(_POLL):
                piece = os.read(stdout.fileno(), 1 << 20)
                output += piece
                closed = not piece
                if MARK in piece:
                    _pass_on(output, tell)
    return bytes(output)


def _pass_on(output: bytearray, tell: Tell) -> None:
    """Take off the output what says how far the child is; the last of it counts."""
    marked, _, rest = output.rpartition(MARK)
    output[:] = rest
    with suppress(ValueError, TypeError):
        done, total = map(int, orjson.loads(marked.rpartition(MARK)[2]))
        if 0 <= done <= total <= _MOST_PAGES:
            tell(done, total)


def _resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0.0  # it has just exited
    return pages * resource.getpagesize() / 2**20
