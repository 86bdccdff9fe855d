"""Which locks a session holds on tables, and for how long: asked of PostgreSQL by another session, again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import psycopg

EVERY = 0.005  # seconds; by so much may a lock be held longer than it is said to be

MODES = ("Share", "ShareRowExclusive", "Exclusive", "AccessExclusive")  # each stops what the one before does, and more
# Of tables that others see: those that the session makes itself are nobody's yet. Weaker modes stop nobody.
_HELD = """
    SELECT c.relname, replace(l.mode, 'Lock', '') FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.pid = %s AND l.granted AND l.locktype = 'relation' AND c.relkind IN ('r', 'p')
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND c.relnamespace = 'public'::regnamespace
        AND replace(l.mode, 'Lock', '') = ANY(%s)
"""

Lock = tuple[str, str]  # table and mode


class LockWatch:
    """Used as a context, in which it watches."""

    def __init__(self, connect: Callable[[], psycopg.Connection], pid: int) -> None:
        """pid: of the session that is watched. Both are sessions of one database."""
        self._connection = connect()
        self._connection.autocommit = True
        self._pid = pid
        self._since: dict[Lock, float] = {}
        self._longest: dict[Lock, float] = {}
        self._looking = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            self.look()

    def look(self) -> None:
        with self._looking:
            held = {(table, mode) for table, mode in self._connection.execute(_HELD, [self._pid, list(MODES)])}
            now = time.monotonic()
            for lock in self._since.keys() - held:
                seconds = now - self._since.pop(lock)
                self._longest[lock] = max(seconds, self._longest.get(lock, 0.0))
            for lock in held - self._since.keys():
                self._since[lock] = now

    def taken(self) -> dict[Lock, float]:
        """The locks since the last time this was asked, all of them free by now, and the longest time that each was
        held without a break, in seconds."""
        self.look()
        with self._looking:
            longest, self._longest = self._longest, {}
        return longest
