"""A turn's log: one ordered list of events; whoever reads it is a cursor into it, so a slow reader only lags."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from chatbot.events import Cursor, Event


class Entry(NamedTuple):
    cursor: Cursor
    event: Event


class Log:
    """Events of one turn in one epoch, seq counted from 1. For the event loop that appends to it only."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.entries: list[Entry] = []
        self._waiting: list[asyncio.Future[bool]] = []

    @property
    def ended(self) -> bool:
        return bool(self.entries) and self.entries[-1].event.terminal

    @property
    def next_seq(self) -> int:
        return len(self.entries) + 1

    def append(self, event: Event) -> None:
        self.entries.append(Entry(Cursor(self.epoch, self.next_seq), event))
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            _wake(future, True)

    async def follow(self, after: Cursor, *, idle: float | None = None) -> AsyncIterator[list[Entry]]:
        """Everything beyond `after` as it comes, to the terminal event; [] after `idle` seconds of silence."""
        place = self._place(after)
        while True:
            batch = self.entries[place:]
            if batch:
                place += len(batch)
                yield batch
                if batch[-1].event.terminal:
                    return
            elif self.ended:
                return
            elif not await self._grown(idle):
                yield []

    def _place(self, after: Cursor) -> int:
        """The index of the first entry beyond `after`; a cursor of an earlier epoch lies before all of them."""
        if after.epoch < self.epoch:
            return 0
        return min(after.seq, len(self.entries)) if after.epoch == self.epoch else len(self.entries)

    async def _grown(self, idle: float | None) -> bool:
        """Wait for the next append; False when `idle` seconds passed without one."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(future)
        if idle is None:
            return await future
        # A bare timer: asyncio.timeout() costs several times as much, and this runs for every token of every reader.
        timer = loop.call_later(idle, _wake, future, False)
        try:
            return await future
        finally:
            timer.cancel()


def _wake(future: asyncio.Future[bool], grown: bool) -> None:
    if not future.done():
        future.set_result(grown)
