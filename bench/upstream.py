"""A mock model server that costs little: paced streams of tokens that say when they were sent, and instant embeddings.

The question sets the pace: "every 20000 us, 100 tokens", or "… from <clock> us" for a first token at once and the rest
from then on. A token is " t" and twelve digits, the monotonic clock in
microseconds, which every process of one machine shares: whoever receives it knows how long it was on its way.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
import time
from typing import Any, cast

import orjson
import uvloop

DIMENSION = 384
GOLDEN = 0.618034

_PACE = re.compile(rb"every (\d+) us, (\d+) tokens(?: from (\d+) us)?")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_EVENT = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1767225600,"model":"bench","choices":'
    b'[{"index":0,"delta":{"content":" t%012d"},"logprobs":null,"finish_reason":null}]}\n\n'
)
_FINISH = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1767225600,"model":"bench","choices":'
    b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-bench","choices":[],"usage":'
    b'{"prompt_tokens":1000,"completion_tokens":%d,"total_tokens":%d}}\n\n'
    b"data: [DONE]\n\n"
)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


_turns = itertools.count()


def now_us() -> int:
    """The monotonic clock in microseconds, as a token carries it."""
    return time.monotonic_ns() // 1000 % 10**12


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _json(body: Any) -> bytes:
    data = orjson.dumps(body)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data)


# One direction for every question: the database compares it with all passages whatever it is.
_VECTOR = _json(
    {
        "object": "list",
        "model": "bench",
        "data": [{"object": "embedding", "index": 0, "embedding": [(n % 7 - 3) / 10 for n in range(DIMENSION)]}],
        "usage": {"prompt_tokens": 10, "total_tokens": 10},
    }
)


class Model(asyncio.Protocol):
    """One connection; it answers one request after another."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = b""
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not separator or (length and len(body) < int(length[1])):
            return
        self.received = b""
        if b"/chat/completions " in head:
            self._begin(body)
        else:
            self.transport.write(_VECTOR if b"/embeddings " in head else _json({"status": "ok"}))

    def _begin(self, body: bytes) -> None:
        interval, tokens, start = pace[-1] if (pace := _PACE.findall(body)) else (b"0", b"1", b"")
        self.interval, self.tokens, self.sent = int(interval) / 1e6, int(tokens), 0
        wait = self.interval
        if start:
            # Spread over one interval, lest all streams that flow from then on keep step.
            wait = max((int(start) - now_us()) / 1e6, 0.0) + self.interval * (next(_turns) * GOLDEN % 1)
        self.second_at = asyncio.get_running_loop().time() + wait
        self.transport.write(_STREAM)
        self._speak()

    def _speak(self) -> None:
        """Send what is due. A server that cannot keep up with its clock catches up with several tokens at once."""
        loop = asyncio.get_running_loop()
        due, late = 1, loop.time() - self.second_at
        if self.tokens > 1 and late >= -1e-6:
            due = min(self.tokens, int(late / self.interval + 1e-6) + 2)
        if due > self.sent:
            self.transport.write(_chunk(_EVENT % now_us()) * (due - self.sent))
            self.sent = due
        if self.sent < self.tokens:
            self.timer = loop.call_at(self.second_at + (self.sent - 1) * self.interval, self._speak)
        else:
            self.transport.write(_chunk(_FINISH % (self.tokens, 1000 + self.tokens)) + b"0\r\n\r\n")


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
