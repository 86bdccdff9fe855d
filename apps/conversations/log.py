"""A turn's log: one ordered list of events; whoever reads it is a cursor into it, so a slow reader only lags."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable
from operator import itemgetter
from typing import NamedTuple

from chatbot.events import START, Cursor, Event


class Entry(NamedTuple):
    cursor: Cursor
    event: Event


class Log:
    """Events of one turn: written here in one epoch, or read from the journal of whoever runs it.

    seq counts from 1 and on from what was kept of earlier epochs. For the event loop that appends to it only.
    """

    def __init__(self, epoch: int, entries: Iterable[Entry] = ()) -> None:
        """entries: what earlier epochs left."""
        self.epoch = epoch
        self.entries: list[Entry] = list(entries)
        self._waiting: list[asyncio.Future[bool]] = []

    @property
    def ended(self) -> bool:
        return bool(self.entries) and self.entries[-1].event.terminal

    @property
    def last(self) -> Cursor:
        return self.entries[-1].cursor if self.entries else START

    @property
    def next_seq(self) -> int:
        return self.last.seq + 1

    def append(self, event: Event) -> None:
        self.add(Entry(Cursor(self.epoch, self.next_seq), event))

    def extend(self, entries: Iterable[Entry]) -> None:
        """Add what another process wrote; what is here already is passed over."""
        for entry in entries:
            if entry.cursor > self.last and not self.ended:
                self.add(entry)

    def place(self, after: Cursor) -> int:
        """The index of the first entry beyond `after`; a cursor of an earlier epoch lies before all of this one's."""
        return bisect_right(self.entries, after, key=itemgetter(0))

    def add(self, entry: Entry) -> None:
        """Add an entry that lies nowhere before the last one."""
        self.entries.append(entry)
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            _wake(future, True)

    async def follow(self, after: Cursor, *, idle: float | None = None) -> AsyncIterator[list[Entry]]:
        """Everything beyond `after` as it comes, to the terminal event; [] after `idle` seconds of silence."""
        place = self.place(after)
        behind = self.last < after  # a mirror begins empty, and the reader has seen what will come first
        silence = _Silence(idle)
        try:
            while True:
                if behind:
                    place = self.place(after)
                    behind = self.last < after
                batch = self.entries[place:]
                if batch:
                    place += len(batch)
                    yield batch
                    if batch[-1].event.terminal:
                        return
                elif self.ended:
                    return
                elif not await silence.before(self._growth()):
                    yield []
        finally:
            silence.end()

    def _growth(self) -> asyncio.Future[bool]:
        """Done with True at the next append."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future


class _Silence:
    """Notices that nothing was appended for `idle` seconds, if any, by one timer for a reader: setting one for each
    token would cost more than waking the reader does."""

    def __init__(self, idle: float | None) -> None:
        self._idle = idle
        self._timer: asyncio.TimerHandle | None = None

    async def before(self, growth: asyncio.Future[bool]) -> bool:
        """Wait for it; False when the log stayed silent instead."""
        if self._idle is not None:
            loop = asyncio.get_running_loop()
            self._growth, self._until = growth, loop.time() + self._idle
            if self._timer is None:
                self._timer = loop.call_at(self._until, self._ring, loop)
        return await growth

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop.time() < self._until:
            self._timer = loop.call_at(self._until, self._ring, loop)
        else:
            self._timer = None
            _wake(self._growth, False)

    def end(self) -> None:
        if self._timer:
            self._timer.cancel()


def _wake(future: asyncio.Future[bool], grown: bool) -> None:
    if not future.done():
        future.set_result(grown)
