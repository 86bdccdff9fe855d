"""Events as bytes: the same words as SSE blocks and as WebSocket frames."""

from __future__ import annotations

from typing import Any

import orjson

from chatbot.events import Cursor, Event

KEEP_ALIVE = b": keep-alive\n\n"


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
