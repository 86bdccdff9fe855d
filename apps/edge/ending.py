"""Whether a worker has been told to end. Celery tells the process that began it, and not those that do the work."""

from __future__ import annotations

import mmap

# Shared with the processes that are forked from this one. No lock, which one that is killed would hold for ever.
_told = mmap.mmap(-1, 1)


def begin() -> None:
    _told[0] = 1


def has_begun() -> bool:
    return _told[0] == 1
