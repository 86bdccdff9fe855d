"""An answer that has begun, as those read it who asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from typing import Self

from chatbot.inference.endpoint import Endpoint
from chatbot.inference.stream import Delta


class Answer:
    """A stream whose first delta has come, from `address` of `endpoint`. It can be iterated once."""

    def __init__(self, endpoint: Endpoint, first: Delta, rest: AsyncGenerator[Delta], *, address: str = "") -> None:
        self.endpoint = endpoint
        self.address = address
        self._first: Delta | None = first
        self._rest = rest

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Delta]:
        # No coroutine around each of the rest's: this runs for every token.
        return self._rest.__anext__() if self._first is None else self._take_first(self._first)

    async def _take_first(self, first: Delta) -> Delta:
        self._first = None
        return first

    async def close(self) -> None:
        await self._rest.aclose()
