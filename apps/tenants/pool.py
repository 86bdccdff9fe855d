"""PostgreSQL connections of one event loop: made by whoever needs one, kept for the next, ended with their loop.

psycopg_pool connects in tasks of its own. They do not end when a loop ends beneath them, as each sync caller's does,
and it notices that a kept connection is dead only by a question that fails on it.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.json import set_json_dumps, set_json_loads

from apps.tenants.metrics import DATABASE_WAIT_SECONDS

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class Pool:
    """parameters: as psycopg connects with. size: connections at a time. patience: seconds to wait for one."""

    def __init__(self, parameters: Mapping[str, Any], *, size: int, patience: float) -> None:
        self._parameters = parameters
        self._places = asyncio.Semaphore(size)
        self._patience = patience
        self._idle: list[Connection] = []

    @asynccontextmanager
    async def transaction(self, first: str) -> AsyncGenerator[Connection]:
        """A connection in a transaction, committed on leaving, rolled back on leaving by an exception.

        first: statements that begin it with the same round trip. Raises psycopg.OperationalError where no connection is
        to be had in time.
        """
        began = time.perf_counter()
        connection = await self._take()
        DATABASE_WAIT_SECONDS.observe(time.perf_counter() - began)
        try:
            await connection.execute(f"BEGIN; {first}".encode())
            yield connection
            await connection.commit()
        except BaseException:
            # Where this fails, too, the connection is of no use, and the first exception tells more.
            with suppress(psycopg.Error):
                await connection.rollback()
            raise
        finally:
            self._places.release()
            # Whole again, or of no use: a query may have been cut off in the middle.
            if connection.info.transaction_status == TransactionStatus.IDLE:
                self._idle.append(connection)
            else:
                await connection.close()

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    async def _take(self) -> Connection:
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
                try:
                    return await self._kept() or await self._made()
                except BaseException:
                    self._places.release()
                    raise
        except TimeoutError as error:
            raise psycopg.OperationalError("No connection to PostgreSQL got free in time.") from error

    async def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if _is_silent(connection):
                return connection
            await connection.close()
        return None

    async def _made(self) -> Connection:
        connection = await psycopg.AsyncConnection.connect(**self._parameters, autocommit=True)
        set_json_loads(orjson.loads, connection)
        set_json_dumps(orjson.dumps, connection)
        return connection


def _is_silent(connection: Connection) -> bool:
    """Whether the server has said nothing since the last answer: unasked, it says only that the connection ends."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
