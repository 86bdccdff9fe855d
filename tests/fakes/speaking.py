"""The events of one streamed answer, in the words of a dialect, paced and broken as a reply says."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from tests.fakes.dialects import Dialect
from tests.fakes.replies import Reply, following

LONGEST = 100_000  # tokens, where nobody asks for fewer
KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Speech:
    """An answer to `payload`. cut: breaks the connection, and never returns. linger: takes its time, unless all is to
    hurry. step: seconds to the next token, where that is the machine's and not the reply's to say."""

    dialect: Dialect
    reply: Reply
    payload: dict[str, Any]
    cut: Callable[[], Awaitable[None]]
    linger: Callable[[], Awaitable[None]]
    step: Callable[[], float] | None = None

    def whole(self) -> tuple[list[str], str]:
        """The tokens of an answer that ends, and why it does."""
        limit = self.dialect.limit(self.payload)
        most = LONGEST if limit is None else limit
        tokens = list(itertools.islice(self._tokens(), most + 1))
        return (tokens[:most], "length") if len(tokens) > most else (tokens, self.reply.finish_reason)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it is written to the socket, piece by piece."""
        async for event in self._events():
            for piece in self._split(event):
                yield piece
                await asyncio.sleep(0)

    def _tokens(self) -> Iterator[str]:
        reply = self.reply
        last_line = (self.dialect.question(self.payload).strip().splitlines() or [""])[-1]
        tokens = reply.tokens if reply.tokens is not None else re.findall(r"\s*\S+", f"You asked: {last_line} [1]")
        return following(itertools.cycle(tokens) if reply.endless else tokens, self.dialect.prefix(self.payload))

    async def _events(self) -> AsyncIterator[bytes]:
        if self.reply.fault in ("overloaded", "too_long"):
            yield event(self.dialect.refusal(self.reply.fault).body)
        else:
            async for spoken in self._spoken():
                yield spoken
            if self.reply.ends_after is not None:
                return
        if self.dialect.done and not self.reply.no_done:
            yield self.dialect.done

    async def _spoken(self) -> AsyncIterator[bytes]:
        reply = self.reply
        tokens, finish = ([], "") if reply.endless else self.whole()
        for body in (*self.dialect.opening(), *map(self.dialect.thought, reply.thoughts)):
            yield event(body)
        said = itertools.islice(self._tokens() if reply.endless else tokens, reply.ends_after)
        for place, token in enumerate(said):
            async for ping in self._misbehave(place):
                yield ping
            if place or self.step:
                await asyncio.sleep(self.step() if self.step else reply.delay)
            if reply.lingers_after is not None and place >= reply.lingers_after:
                await self.linger()
            last = place == len(tokens) - 1 and not reply.ends_badly
            yield event(self.dialect.token(token, tokens, finish if last else None))
        async for rest in self._after(tokens, finish):
            yield rest

    async def _after(self, tokens: list[str], finish: str) -> AsyncIterator[bytes]:
        async for ping in self._misbehave(len(tokens)):
            yield ping
        if self.reply.ends_after is not None:
            return
        if self.reply.garbage:
            yield self.reply.garbage.encode()
        for body in self._ending(tokens, finish):
            yield event(body)

    def _ending(self, tokens: list[str], finish: str) -> Iterator[dict[str, Any]]:
        yield from self.dialect.tool_call(self.reply.tool_call) if self.reply.tool_call else ()
        if self.reply.fault == "broken":
            yield self.dialect.refusal("broken").body
        elif self.reply.error_event is not None:
            yield self.reply.error_event
        elif not self.reply.no_finish:
            yield from self.dialect.closing(tokens, finish)
        if not self.reply.no_usage:
            yield from self.dialect.counted(self.payload, tokens)

    async def _misbehave(self, place: int) -> AsyncIterator[bytes]:
        if place == self.reply.cut_after:
            await self.cut()
        while place == self.reply.hang_after:
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            if self.reply.noise:
                yield KEEP_ALIVE

    def _split(self, spoken: bytes) -> Iterator[bytes]:
        if self.reply.noise:
            empty = event(self.dialect.token("", [], None))
            spoken = (KEEP_ALIVE + empty + b"event: message\nid: 7\n" + spoken).replace(b"\n", b"\r\n")
        size = self.reply.split or len(spoken)
        return (spoken[start : start + size] for start in range(0, len(spoken), size))


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
