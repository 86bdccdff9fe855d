"""Events as bytes: the same words as SSE blocks and as WebSocket frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from chatbot.events import Cursor, Event

KEEP_ALIVE = b": keep-alive\n\n"
# A stream that is silent for so long says that it lives. Sockets are pinged as often (config/run.py).
HEARTBEAT_SECONDS = 25.0
# How long an EventSource waits before it comes back. A block with nothing but this breaks OpenAI's SDK and others.
RETRY = b"retry: 2000\n"
# What leaves as one piece: a reader far behind holds the turn's log by its cursor, not as bytes of its own.
PIECE_BYTES = 32 * 1024


def sse(event: Event, cursor: Cursor | None) -> bytes:
    """One SSE block; its id is the cursor to come back with."""
    place = b"id: %d-%d\n" % cursor if cursor else b""
    return b"%sevent: %s\ndata: %s\n\n" % (place, event.type.encode(), orjson.dumps(event.payload()))


def frame(event: Event, cursor: Cursor | None, **context: str) -> str:
    """One WebSocket text frame; `context` names the turn and what the client called it."""
    body: dict[str, Any] = {"type": event.type}
    if cursor:
        body["id"] = str(cursor)
    return orjson.dumps(body | context | event.payload()).decode()


def pieces(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Blocks joined to pieces of about PIECE_BYTES, made when they are asked for."""
    gathered, size = [], 0
    for block in blocks:
        gathered.append(block)
        size += len(block)
        if size >= PIECE_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)
