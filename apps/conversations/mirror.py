"""Follows turns that other processes run: their journals, read into logs of our own by one XREAD for all of them.

The same call reads a control stream of this process, by which a newly followed turn interrupts the waiting one. A turn
that stays silent is looked up in PostgreSQL now and then: where it has closed although its journal does not say so by
the next look, the log ends with what is stored.
"""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError

from apps.conversations import stored
from apps.conversations.journal import connect, entries_in, key_of
from apps.conversations.log import Entry, Log
from apps.conversations.models import Turn
from apps.edge.shared_state import was_cancelled
from apps.tenants.scoping import unit
from chatbot.errors import NotFound
from chatbot.events import Cursor, Failed

log = structlog.get_logger(__name__)

BLOCK_MS = 2000
# What arrives within this time is read by one call: a process writes its turns in slices, one shortly after another.
GATHER = 0.004
SILENCE = 2.0  # after which PostgreSQL is asked
BACKOFF = 0.25


@dataclass(slots=True, eq=False)
class _Mirrored:
    tenant_id: uuid.UUID
    turn_id: uuid.UUID
    log: Log
    last_id: str  # of the stream, as far as it was read
    heard: float
    readers: int = 0
    closed: bool = False  # as PostgreSQL told when it was asked for the first time


@dataclass(slots=True)
class Mirrors:
    """One event loop's reader."""

    loop: asyncio.AbstractEventLoop
    control: str = field(default_factory=lambda: f"parley:mirrors:{uuid.uuid4()}")
    redis: Any = field(default_factory=lambda: connect(seconds=BLOCK_MS / 1000 + 3))
    nudging: Any = field(default_factory=connect)
    turns: dict[str, _Mirrored] = field(default_factory=dict)
    added: asyncio.Event = field(default_factory=asyncio.Event)
    _control_id: str = "0"

    async def follow(
        self, tenant_id: uuid.UUID, turn_id: uuid.UUID, after: Cursor, *, idle: float | None
    ) -> AsyncIterator[list[Entry]]:
        """As Log.follow has it, of a turn of the tenant's that another process runs."""
        key = key_of(tenant_id, turn_id)
        mirrored = self.turns.get(key) or await self._add(key, _Mirrored(tenant_id, turn_id, Log(0), "0", 0.0))
        async for batch in self._read(key, mirrored, after, idle):
            yield batch

    async def adopt(self, tenant_id: uuid.UUID, turn_id: uuid.UUID, log: Log) -> None:
        """Go on with a log of ours whose turn another process has taken over; its readers notice nothing else."""
        mirrored = _Mirrored(tenant_id, turn_id, log, f"{log.epoch}-{2**64 - 1}", 0.0, readers=1)  # until it has ended
        await self._add(key_of(tenant_id, turn_id), mirrored)

    async def _read(
        self, key: str, mirrored: _Mirrored, after: Cursor, idle: float | None
    ) -> AsyncIterator[list[Entry]]:
        mirrored.readers += 1
        try:
            async for batch in mirrored.log.follow(after, idle=idle):
                yield batch
        finally:
            mirrored.readers -= 1
            if not mirrored.readers and self.turns.get(key) is mirrored:
                del self.turns[key]

    async def _add(self, key: str, mirrored: _Mirrored) -> _Mirrored:
        mirrored.heard = self.loop.time()
        self.turns[key] = mirrored
        self.added.set()
        try:
            await self.nudging.xadd(self.control, {"": ""}, maxlen=1)
            await self.nudging.expire(self.control, 60)
        except (RedisError, OSError, TimeoutError):
            pass  # found at the end of the waiting call
        return mirrored

    # --- The one reader -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        failing = False
        while not was_cancelled():
            if not self.turns:
                self.added.clear()
                await self.added.wait()
            try:
                await self._read_once()
                failing = False
            except (RedisError, OSError, TimeoutError) as error:
                if not failing:
                    log.warning("mirror.lost", error=type(error).__name__)
                failing = True
                await asyncio.sleep(BACKOFF)

    async def _read_once(self) -> None:
        places: dict[Any, Any] = {key: mirrored.last_id for key, mirrored in self.turns.items()}
        told = await self.redis.xread({**places, self.control: self._control_id}, block=BLOCK_MS)
        for name, stream in told or ():
            if name.decode() == self.control:
                self._control_id = stream[-1][0].decode()
            elif mirrored := self.turns.get(name.decode()):
                self._take(name.decode(), mirrored, stream)
        await asyncio.sleep(GATHER)

    def _take(self, key: str, mirrored: _Mirrored, stream: list[Any]) -> None:
        mirrored.last_id = stream[-1][0].decode()
        mirrored.heard = self.loop.time()
        try:
            mirrored.log.extend(entries_in(stream))
        except (ValueError, KeyError, TypeError):
            log.exception("mirror.not_understood")  # the stored message will tell
        self._drop_ended(key, mirrored)

    def _drop_ended(self, key: str, mirrored: _Mirrored) -> None:
        if mirrored.log.ended and self.turns.get(key) is mirrored:
            del self.turns[key]

    # --- Silence ------------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """End the logs of turns that have closed without a word."""
        while True:
            await asyncio.sleep(SILENCE)
            before = self.loop.time() - SILENCE
            for key, mirrored in list(self.turns.items()):
                if mirrored.heard < before:
                    try:
                        await self._look_up(mirrored)
                    except (OperationalError, InterfaceError):
                        break
                    self._drop_ended(key, mirrored)

    async def _look_up(self, mirrored: _Mirrored) -> None:
        try:
            turn = await unit(stored.turn_with, mirrored.tenant_id, mirrored.turn_id)
        except NotFound as error:
            end = Failed(error.code, error.message, str(mirrored.turn_id))
            mirrored.log.add(Entry(Cursor(mirrored.log.last.epoch + 1, mirrored.log.next_seq), end))
            return
        if turn.state in Turn.OPEN or mirrored.log.ended:
            return
        if not mirrored.closed:  # its last words may just be on their way
            mirrored.closed = True
            return
        for entry in stored.replay(turn, mirrored.log.last):
            mirrored.log.add(entry)


_mirrors: dict[asyncio.AbstractEventLoop, tuple[Mirrors, AsyncGenerator[Mirrors]]] = {}


async def mirrors() -> Mirrors:
    """This event loop's."""
    loop = asyncio.get_running_loop()
    if loop not in _mirrors:
        holder = _hold(loop)
        _mirrors[loop] = await anext(holder), holder
    return _mirrors[loop][0]


async def _hold(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[Mirrors]:
    # A generator, because a loop that ends closes its generators.
    reader = Mirrors(loop)
    tasks = [loop.create_task(work, context=contextvars.Context()) for work in (reader.run(), reader.look())]
    try:
        yield reader
    finally:
        del _mirrors[loop]
        for task in tasks:
            task.cancel()
        await reader.redis.aclose()
        await reader.nudging.aclose()
