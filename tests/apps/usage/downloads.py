"""Reads a file that is sent in pieces, as an async server does."""

from __future__ import annotations

import asyncio
from typing import Any


def text_of(response: Any) -> str:
    async def read() -> bytes:
        return b"".join([piece async for piece in response.streaming_content])

    content = asyncio.run(read())
    assert int(response.headers["Content-Length"]) == len(content)
    return content.decode()
