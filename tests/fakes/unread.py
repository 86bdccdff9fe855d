"""A log that nobody takes: what reads the other end of the pipe has stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Unread:
    """The pipe, by its path, is full. Whoever writes to it waits, until it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._ends = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while True:
                os.write(self._ends, b"\n" * 4096)

    def read(self) -> bytes:
        """Take what there is."""
        text = b""
        with suppress(BlockingIOError):
            while True:
                text += os.read(self._ends, 65536)
        return text

    def read_until(self, wanted: bytes, seconds: float = 30.0) -> bytes:
        """Take all that comes, until this is there."""
        text, until = b"", time.monotonic() + seconds
        while wanted not in (text := text + self.read()):
            assert time.monotonic() < until, text[-1000:]
            time.sleep(0.02)
        return text

    def close(self) -> None:
        os.close(self._ends)


@contextmanager
def unread(path: Path) -> Iterator[Unread]:
    pipe = Unread(path)
    try:
        yield pipe
    finally:
        pipe.close()
