"""Writes the log without waiting for it: a thread of its own does, and what finds no room is dropped and counted.

A pipe whose reader has stopped holds up whoever writes to it, and here that would be every stream of the process.
The processes of a container share one pipe, which takes PIPE_BUF bytes in one piece and no more: they write in turn.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

MOST = 4 * 2**20  # bytes of lines that wait
PATIENCE = 1.0  # seconds that a process which ends gives them


def _uncounted(_lines: int) -> None:
    """Before the settings are read: where counts are kept, metrics find out when they are imported."""


_dropped: Callable[[int], object] = _uncounted


def count_dropped(by: Callable[[int], object]) -> None:
    """From now on, by this. It is called by any thread."""
    global _dropped  # noqa: PLW0603 - the process has one count
    _dropped = by


class Lines(logging.Handler):
    """Each record is a line, written to a file descriptor in the order that they came. most: bytes that may wait."""

    def __init__(self, descriptor: int, *, most: int = MOST) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._most = most
        self._begin()
        os.register_at_fork(after_in_child=self._begin)  # the parent writes what waits, and the thread stays with it

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._held = 0  # bytes that wait or are just being written
        self._torn = False  # whether half a line may stand at the end
        self._writer: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001 - as logging's own handlers do: a line is no reason to fail
            self.handleError(record)
            return
        with self._changed:
            if self._held + len(line) > self._most:
                _dropped(1)
                return
            self._waiting.append(line)
            self._held += len(line)
            if self._writer is None:
                self._begin_writing()
            self._changed.notify_all()

    def _begin_writing(self) -> None:
        writer = threading.Thread(target=self._write, name="log", daemon=True)
        with suppress(RuntimeError):  # no thread to be had: lines wait, and with the next one it is tried again
            writer.start()
            self._writer = writer

    def flush(self) -> None:
        """Wait until nothing waits, and for PATIENCE at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held, PATIENCE)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                lines = b"".join(self._waiting)
                self._waiting.clear()
            if lost := self._put(lines):
                _dropped(lost)
            with self._changed:
                self._held -= len(lines)
                self._changed.notify_all()

    def _put(self, lines: bytes) -> int:
        """Write them; how many were lost."""
        rest = b"\n" + lines if self._torn else lines
        try:
            with _in_turn(self._descriptor):
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
        except OSError:  # a full disk, a pipe without a reader
            self._torn = True
            return rest.removeprefix(b"\n").count(b"\n")
        self._torn = False
        return 0


@contextmanager
def _in_turn(descriptor: int) -> Iterator[None]:
    """Keep other processes from what this writes to. Whoever dies meanwhile lets go, and a child inherits nothing."""
    with suppress(OSError):  # of a kind that cannot be locked
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.lockf(descriptor, fcntl.LOCK_UN)


def flush() -> None:
    """For a process that ends without Python's own end: by a signal, or by os._exit()."""
    for handler in logging.getLogger().handlers:
        handler.flush()
