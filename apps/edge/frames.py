"""Events as bytes: the same words as SSE blocks and as WebSocket frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import orjson

from chatbot.events import Cursor, Event

Item = TypeVar("Item")

KEEP_ALIVE = b": keep-alive\n\n"
# A stream that is silent for so long says that it lives. Sockets are pinged as often (config/run.py).
HEARTBEAT_SECONDS = 25.0
# How long an EventSource waits before it comes back. A block with nothing but this breaks OpenAI's SDK and others.
RETRY = b"retry: 2000\n"
# Events that leave as one piece: a reader far behind holds the turn's log by its cursor, not as bytes of its own.
EVENTS_A_PIECE = 100


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


def pieces(batch: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """A batch of a log in pieces to be sent one by one. Of an empty one, which is a heartbeat, one that is empty."""
    for start in range(0, len(batch) or 1, EVENTS_A_PIECE):
        yield batch[start : start + EVENTS_A_PIECE]
