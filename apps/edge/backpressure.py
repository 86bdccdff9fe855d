"""Lets go of clients that do not read, so that what waits for one of them neither fills the memory nor holds a task.

The servers differ in what `send` does when a client is slow: Daphne's never waits and Twisted keeps all there is to
send, uvicorn's waits for as long as the client likes. Here both wait while more than LIMIT bytes wait for one client,
and its connection is cut once it has taken none of them for STALL_SECONDS. A turn's readers are cursors into its log
(apps/conversations/log.py), so whoever was let go comes back for the rest, and whoever reads slowly only lags.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

import structlog

log = structlog.get_logger(__name__)

LIMIT = 256 * 1024
STALL_SECONDS = 10.0
# What was sent and not taken for so long ends the connection, by the kernel: it notices clients that vanished without
# a word, and those for whom less than LIMIT waits, also when the server is closing already and waits for them.
UNTAKEN_SECONDS = 45.0
# The kernel itself would take megabytes for a client that reads nothing, before anything waits here.
UNSENT_BYTES = 64 * 1024
# How often it is looked whether a client has read: at first, and as long as it does not.
LOOK_SECONDS, SELDOM_SECONDS = 0.01, 0.25

Send = Callable[[Any], Awaitable[None]]


class Wire(Protocol):
    """What is asked of a server's connection."""

    def waiting(self) -> int:
        """Bytes in this process that the kernel has not taken."""

    def ending(self) -> bool:
        """Whether nothing more can be sent."""

    def cut(self) -> None:
        """End the connection at once, whatever waits."""


class _Daphne:
    """A transport of Twisted."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._cut = False
        _tell_kernel(transport.getHandle())

    def waiting(self) -> int:
        transport = self._transport
        # As its own _isSendBufferFull() counts, which says only whether there is more than it wants.
        waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return waiting

    def ending(self) -> bool:
        # A connection that was cut takes more until Twisted has told everybody.
        return self._cut or not self._transport.connected or self._transport.disconnecting

    def cut(self) -> None:
        self._cut = True
        self._transport.abortConnection()


class _Uvicorn:
    """A transport of asyncio or uvloop."""

    def __init__(self, transport: asyncio.Transport) -> None:
        # Its send waits beyond this, where nobody looks whether the client reads.
        transport.set_write_buffer_limits(high=LIMIT)
        _tell_kernel(transport.get_extra_info("socket"))
        self.waiting, self.ending, self.cut = transport.get_write_buffer_size, transport.is_closing, transport.abort


def _tell_kernel(connection: Any) -> None:
    with suppress(OSError):  # it is gone
        if sys.platform == "linux":
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNTAKEN_SECONDS * 1000))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def wire_of(send: Any) -> Wire | None:
    """The connection that an ASGI server's `send` writes to. None where there is none, as in tests without a server."""
    # Daphne's is a partial() with its request or WebSocket, uvicorn's a method of its own.
    arguments = getattr(send, "args", ())
    transport: Any = getattr(arguments[0] if arguments else getattr(send, "__self__", None), "transport", None)
    if hasattr(transport, "get_write_buffer_size"):
        return _Uvicorn(transport)
    return _Daphne(transport) if hasattr(transport, "abortConnection") else None


class BackPressure:
    """An ASGI application around another, for which `send` waits as said above."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        wire = None if scope["type"] == "lifespan" else wire_of(send)
        await self._application(scope, receive, Outflow(wire, send).send if wire else send)


class Outflow:
    """What goes to one client."""

    __slots__ = ("_least", "_send", "_since", "_wire")

    def __init__(self, wire: Wire, send: Send) -> None:
        self._wire = wire
        self._send = send
        # The fewest bytes that have waited since more than LIMIT do, and since when. Of the connection and not of who
        # waits: a client that resumes one turn after the other still has not read.
        self._least, self._since = 0, 0.0

    async def send(self, message: Any) -> None:
        """Raises nothing where the client is gone: receive() tells of that."""
        if self._wire.waiting() > LIMIT:
            await self._room()
        else:
            self._least = 0
        if self._wire.ending():
            await asyncio.sleep(0)  # who has much to say lets others hear of it
        else:
            with suppress(OSError):  # uvicorn's word for it
                await self._send(message)

    async def _room(self) -> None:
        """Wait until the client has taken enough, or is gone."""
        pause = LOOK_SECONDS
        while (waiting := self._wire.waiting()) > LIMIT and not self._wire.ending():
            now = asyncio.get_running_loop().time()
            if not self._least or waiting < self._least:
                self._least, self._since, pause = waiting, now, LOOK_SECONDS
            elif now - self._since > STALL_SECONDS:
                log.info("client.let_go", waiting=waiting, seconds=STALL_SECONDS)
                self._wire.cut()
            await asyncio.sleep(pause)
            pause = min(2 * pause, SELDOM_SECONDS)
        self._least = 0
