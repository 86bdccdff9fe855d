"""What a WebSocket's client may send, and how much of it a process holds.

The servers refuse frames beyond 64 KiB (config/run.py) as soon as their length is known. What stands here has them say
so by close code 1009, also to a client that is still sending, and has Daphne read the next frames when the last ones
are taken, as uvicorn does.
"""

# What is the servers' has no type hints, and names of its own.
# mypy: disable-error-code="no-untyped-def, misc"
# ruff: noqa: N802, N803, N815

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from chatbot.errors import RateLimited

FRAMES_A_SECOND = 50
BURST_SECONDS = 2.0  # so far ahead of that pace a client may be: 100 frames at once
FRAMES_WAITING = 8  # beyond these Daphne reads no more from a socket until they are taken
LINGER_SECONDS = 3.0  # for a client to read why its frame was refused


class Pace:
    """Counts the frames of one socket (GCRA): `due` is when the next one would come at the allowed pace."""

    __slots__ = ("ahead", "due")

    def __init__(self) -> None:
        self.due = self.ahead = 0.0

    def count(self, now: float) -> None:
        """A frame came. Raises RateLimited for one that is too much; it counts all the same."""
        self.due = max(self.due, now) + 1 / FRAMES_A_SECOND
        self.ahead = self.due - now
        if self.ahead > BURST_SECONDS:
            raise RateLimited(
                f"A socket takes {FRAMES_A_SECOND} frames a second.", retry_after=round(self.ahead - BURST_SECONDS, 2)
            )

    @property
    def goes_on(self) -> bool:
        """Whether as many frames again have come as were told to be too many: the socket is to be closed."""
        return self.ahead > 2 * BURST_SECONDS


def bound_sockets() -> None:
    """Have the server, whichever runs this, keep to what stands above. Before it makes its first socket."""
    if daphne := sys.modules.get("daphne.ws_protocol"):
        daphne.WebSocketFactory.protocol = _bounded(daphne.WebSocketProtocol)
    if "uvicorn" in sys.modules:  # which loads the application first
        uvicorn = import_module("uvicorn.protocols.websockets.websockets_sansio_impl")
        uvicorn.WebSocketsSansIOProtocol.handle_parser_exception = _say_why


def _say_why(socket: Any) -> None:
    """For uvicorn, which closes at once: what a client still sends then resets the connection before it has read the
    code. Called again for all that comes after the frame that was refused, which is dropped."""
    if socket.close_timer is None:
        said = socket.conn.close_sent
        socket.queue.put_nowait({"type": "websocket.disconnect", "code": said.code, "reason": said.reason})
        socket.transport.write(b"".join(socket.conn.data_to_send()))
        socket.close_sent = True
        socket.transport.resume_reading()
        socket.close_timer = socket.loop.call_later(LINGER_SECONDS, socket.transport.close)


def _bounded(protocol: Any) -> Any:
    class Bounded(protocol):
        # Tell the code of what is refused. Autobahn cuts the connection without a word instead.
        failByDrop = False
        held = False  # nothing is read from the socket

        def serverSend(self, content, binary=False) -> None:
            # Not by sendMessage(), which holds what is sent to the limit of what is received, too.
            if self.state == self.STATE_OPEN:
                data = content if binary else content.encode()
                self.sendPreparedMessage(self.factory.prepareMessage(data, binary))

        def applicationCreateWorked(self, application_queue) -> None:
            take = application_queue._get

            def take_and_read_on() -> Any:
                message = take()
                if self.held and application_queue.empty():
                    self.held = False
                    self.transport.resumeProducing()
                return message

            application_queue._get = take_and_read_on  # asyncio.Queue lets subclasses say what its get() takes
            super().applicationCreateWorked(application_queue)

        def onMessage(self, payload, isBinary) -> None:
            super().onMessage(payload, isBinary)
            if not self.held and self.application_queue.qsize() >= FRAMES_WAITING:
                self.held = True
                self.transport.pauseProducing()

    return Bounded
