"""The processes that run turns: each renews a row and holds an advisory lock, and each looks whether the others live.

The lock tells of a dead process at once, the row of one that hangs. Both are asked of PostgreSQL on one connection that
does nothing else, by PostgreSQL's clock. Whoever finds a process dead deletes its row; its open turns are orphans then,
and takeover.py claims them. One that was only slow finds its row gone, writes it again, and keeps what nobody claimed.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import psycopg
import structlog
from django.conf import settings
from django.db import connections

from apps.edge import bus
from apps.edge.errors import ServiceUnavailable
from apps.inference import board, gateway

log = structlog.get_logger(__name__)

# This process, as turns name it.
ME = uuid.uuid4()
NAME = f"{socket.gethostname()}:{os.getpid()}"
JOIN_SECONDS = 2.0  # that a question waits for it
LOOK_SECONDS = 0.5
BEAT_SECONDS = 2.0
DEAD_SECONDS = 10.0
TOPIC = "orphans"  # the word that a process has left turns to others

Claim = Callable[[], Coroutine[Any, Any, None]]

_BEAT = """
    INSERT INTO conversations_replica (id, name, lock, draining) VALUES (%(me)s, %(name)s, %(lock)s, %(draining)s)
    ON CONFLICT (id) DO UPDATE SET beat = now(), draining = conversations_replica.draining OR excluded.draining
    RETURNING draining, (SELECT count(*) FROM conversations_replica WHERE id <> %(me)s AND NOT draining)
"""
# All locks drop with PostgreSQL, so for a while after its start a free one means nothing. Mine is never free to others;
# a transaction's lock ends with this statement.
BURY = """
    DELETE FROM conversations_replica r WHERE r.id <> %(me)s AND (
        (%(judging)s AND r.beat < now() - make_interval(secs => %(dead)s))
        OR (r.lock IS NOT NULL AND pg_postmaster_start_time() < now() - make_interval(secs => %(dead)s)
            AND pg_try_advisory_xact_lock(r.lock))
    ) RETURNING r.name
"""


class Lease:
    """One event loop's hold on being alive."""

    def __init__(self, claim: Claim) -> None:
        """claim: takes over what orphans there are."""
        self.draining = asyncio.Event()  # somebody wants this process to go
        self._claim = claim
        self._woken = asyncio.Event()
        self._joined = asyncio.Event()
        self._leaving = False
        self._claiming: asyncio.Future[None] | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._beaten = 0.0  # when the row was renewed
        self._steady = 0.0  # since when that has gone without a gap
        # Without a session of its own there is no lock to hold.
        self._lock = None if settings.DATABASE_PGBOUNCER else ME.int >> 65

    async def joined(self) -> None:
        """Wait until others know of this process: a question must not be written before. Raises ServiceUnavailable."""
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                await self._joined.wait()
        except TimeoutError as error:
            raise ServiceUnavailable(retry_after=5) from error

    def wake(self) -> None:
        """Look at once."""
        self._woken.set()

    async def leave(self) -> None:
        """Leave what is still open to the others, at once."""
        self._leaving = True
        try:
            connection = await self._connect()
            await connection.execute("DELETE FROM conversations_replica WHERE id = %s", (ME,))
        except psycopg.Error as error:
            log.warning("replica.not_left", error=type(error).__name__)
        await asyncio.to_thread(bus.publish, TOPIC, str(ME))
        await self.close()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._leaving:
            try:
                await self._look(loop.time())
                # One that is about to go takes nothing that it would only hand on.
                if not self.draining.is_set() and (self._claiming is None or self._claiming.done()):
                    self._claiming = asyncio.ensure_future(self._claim())
            except psycopg.Error as error:
                log.warning("replica.not_renewed", error=type(error).__name__)
                await self.close()
            except Exception:
                log.exception("replica.failed")
            self._woken.clear()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            await connection.close()

    async def _look(self, now: float) -> None:
        connection = await self._connect()
        if now - self._beaten >= BEAT_SECONDS:
            if now - self._beaten > DEAD_SECONDS / 2:
                self._steady = now
            row = {"me": ME, "name": NAME, "lock": self._lock, "draining": self.draining.is_set()}
            told = await (await connection.execute(_BEAT, row)).fetchone()
            self._beaten = now
            self._joined.set()
            if told and told[0]:
                self.draining.set()
            if told:
                # The servers' limits are for all who ask. One that drains asks nothing new.
                gateway.share_with(told[1])
        # Whoever was away itself, or has just come, does not know how long the others have been silent.
        judging = now - self._steady >= DEAD_SECONDS
        buried = await connection.execute(BURY, {"me": ME, "judging": judging, "dead": DEAD_SECONDS})
        for (name,) in await buried.fetchall():
            log.warning("replica.dead", replica=name)

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            parameters = connections["default"].get_connection_params()
            for name in ("cursor_factory", "context", "pool"):
                parameters.pop(name, None)
            self._connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True, connect_timeout=2)
            if self._lock is not None:
                await self._connection.execute("SELECT pg_try_advisory_lock(%s)", (self._lock,))
            self._beaten = min(self._beaten, asyncio.get_running_loop().time() - BEAT_SECONDS)
        return self._connection


_leases: dict[asyncio.AbstractEventLoop, tuple[Lease, AsyncGenerator[Lease]]] = {}


async def join(claim: Claim) -> Lease:
    """Be one of the processes that run turns, from now on in this event loop; again, it does nothing."""
    loop = asyncio.get_running_loop()
    if loop not in _leases:
        holder = _hold(loop, claim)
        _leases[loop] = await anext(holder), holder
    return _leases[loop][0]


async def _hold(loop: asyncio.AbstractEventLoop, claim: Claim) -> AsyncGenerator[Lease]:
    # A generator, because a loop that ends closes its generators.
    lease = Lease(claim)
    bus.listen()
    board.tell()
    task = loop.create_task(lease.run(), context=contextvars.Context())
    try:
        yield lease
    finally:
        del _leases[loop]
        task.cancel()
        await lease.close()


def _hear(_: Any) -> None:
    for loop, (lease, _holder) in tuple(_leases.items()):
        loop.call_soon_threadsafe(lease.wake)


bus.subscribe(TOPIC, _hear)
