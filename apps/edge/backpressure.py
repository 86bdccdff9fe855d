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
        """Bytes in this process that the kernel has not taken; 0 once the connection is ending."""

    def cut(self) -> None:
        """End the connection at once, whatever waits."""


class _Daphne:
    """A transport of Twisted."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        _tell_kernel(transport.getHandle())

    def waiting(self) -> int:
        transport = self._transport
        if not transport.connected or transport.disconnecting:
            return 0
        # As its own _isSendBufferFull() counts, which says only whether there is more than it wants.
        waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return waiting

    def cut(self) -> None:
        self._transport.abortConnection()


class _Uvicorn:
    """A transport of asyncio or uvloop."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        # Its send waits beyond this, where nobody looks whether the client reads.
        transport.set_write_buffer_limits(high=LIMIT)
        _tell_kernel(transport.get_extra_info("socket"))

    def waiting(self) -> int:
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()

    def cut(self) -> None:
        self._transport.abort()


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

    __slots__ = ("_cut", "_least", "_send", "_since", "_wire")

    def __init__(self, wire: Wire, send: Send) -> None:
        self._wire = wire
        self._send = send
        # The fewest bytes that have waited since more than LIMIT do, and since when. Of the connection and not of who
        # waits: a client that resumes one turn after the other still has not read.
        self._least, self._since = 0, 0.0
        self._cut = False

    async def send(self, message: Any) -> None:
        if self._wire.waiting() > LIMIT:
            await self._room()
        else:
            self._least = 0
        if self._cut:  # Twisted takes more until it has told everybody, which needs the loop
            await asyncio.sleep(0)
            return
        with suppress(OSError):  # uvicorn says that a socket is gone; Daphne does not, and both tell receive()
            await self._send(message)

    async def _room(self) -> None:
        """Wait until the client has taken enough, or is gone."""
        pause = LOOK_SECONDS
        while not self._cut and (waiting := self._wire.waiting()) > LIMIT:
            now = asyncio.get_running_loop().time()
            if not self._least or waiting < self._least:
                self._least, self._since, pause = waiting, now, LOOK_SECONDS
            elif now - self._since > STALL_SECONDS:
                log.info("client.let_go", waiting=waiting, seconds=STALL_SECONDS)
                self._cut = True
                self._wire.cut()
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, SELDOM_SECONDS)
        self._least = 0
