"""The load: questions asked over plain sockets, and every token's arrival against the time that it carries.

It neither parses HTTP chunks nor WebSocket frames: it looks for tokens in the bytes, which keeps its own cost small
beside that of the server that it measures.
"""

from __future__ import annotations

import asyncio
import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from bench.upstream import now_us

STREAM_SECONDS = 30.0  # after that a stream counts as failed

_TOKEN = re.compile(rb" t(\d{12})")
# What ends a stream. The product's last event repeats the whole answer, so nothing behind it may be counted.
_END = re.compile(rb'turn\.finished|\[DONE\]|"code": ?"(\w+)"')
_PING, _PONG = b"\x89", b"\x8a"
_LONGEST = 64  # bytes that a token or an end may be cut in


@dataclass
class Tally:
    """What the streams of one run brought. Times are microseconds; an arrival is (time, tokens)."""

    flows_at: int = 0  # when all answers began to flow
    first_us: array[float] = field(default_factory=lambda: array("d"))
    late_us: array[float] = field(default_factory=lambda: array("d"))
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)  # first and last token of each stream
    errors: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return len(self.late_us)


class Connection(asyncio.Protocol):
    """One socket. `ask` sends bytes and counts what comes back; one question at a time."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.buffer = b""
        self.awaited: tuple[bytes, asyncio.Future[None]] | None = None
        self.done: asyncio.Future[str] | None = None
        self.tokens = 0
        self.pings = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.done and not self.done.done():
            self.done.set_result("closed")
        if self.awaited and not self.awaited[1].done():
            self.awaited[1].set_exception(ConnectionError("closed while attaching"))

    async def say(self, data: bytes, answer: bytes) -> None:
        """Send something and wait until `answer` stands in what comes back."""
        self.awaited = (answer, asyncio.get_running_loop().create_future())
        self.transport.write(data)
        async with asyncio.timeout(STREAM_SECONDS):
            await self.awaited[1]
        self.awaited, self.buffer = None, b""

    async def ask(self, question: bytes, expected: int) -> None:
        """Ask, and wait for the end of the answer. An answer without all its tokens is an error."""
        self.done = asyncio.get_running_loop().create_future()
        self.asked, self.first, self.tokens = now_us(), 0, 0
        self.transport.write(question)
        try:
            async with asyncio.timeout(STREAM_SECONDS):
                ended = await self.done
        except TimeoutError:
            ended = "timed out"
        if not ended and self.tokens != expected:
            ended = f"{self.tokens} of {expected} tokens"
        if ended:
            self.tally.errors.append(ended)
        if self.first:
            self.tally.first_us.append(self.first - self.asked)
            self.tally.spans.append((self.first, self.last))

    def data_received(self, data: bytes) -> None:
        if data.startswith(_PING) and len(data) == 2 + data[1]:  # they come alone, where nothing else is said
            self.pings += 1
            self.transport.write(_PONG + bytes([0x80 | data[1]]) + bytes(4) + data[2:])
            return
        now = now_us()
        self.buffer += data
        if self.awaited:
            if self.awaited[0] in self.buffer and not self.awaited[1].done():
                self.awaited[1].set_result(None)
            return
        end = _END.search(self.buffer)
        stamps = _TOKEN.findall(self.buffer, 0, end.start() if end else len(self.buffer))
        if stamps:
            self._count(stamps, now)
        if end and self.done and not self.done.done():
            self.done.set_result((end[1] or b"").decode())
            self.buffer = b""
        elif stamps:
            self.buffer = self.buffer[self.buffer.rindex(stamps[-1]) + 12 :][-_LONGEST:]
        else:
            self.buffer = self.buffer[-_LONGEST:]

    def _count(self, stamps: Sequence[bytes], now: int) -> None:
        self.first = self.first or now
        self.last = now
        self.tokens += len(stamps)
        self.tally.arrivals.append((now, len(stamps)))
        self.tally.late_us.extend(now - int(stamp) for stamp in stamps)


@dataclass(frozen=True)
class Door:
    """A way to ask. `question` gives the bytes for the n-th question; a socket that is upgraded first has a greeting
    to wait for."""

    port: int
    question: Callable[[int, str], bytes]
    upgrade: bytes = b""
    greeting: bytes = b""

    async def attach(self, tally: Tally) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(tally), "127.0.0.1", self.port)
        if self.upgrade:
            await connection.say(self.upgrade, self.greeting)
        return connection


def post(path: str, body: Mapping[str, Any], headers: str = "") -> bytes:
    data = orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n{headers}\r\n"
    )
    return head.encode() + data


def upgrade(headers: str = "") -> bytes:
    return (
        "GET /ws/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    ).encode()


def text_frame(body: dict[str, str]) -> bytes:
    """A client's frame, masked by zeros, which leave the text as it is."""
    data = orjson.dumps(body)
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x81" + size + b"\0\0\0\0" + data


@dataclass(frozen=True)
class Profile:
    """`streams` at a time, each `rounds` answers of `tokens`, one every `interval_us`; the starts spread over
    `ramp` seconds, by default over an answer's length, so that questions come evenly. With `hold`, all answers wait
    after their first token until so many seconds have passed, and then flow at once."""

    name: str
    streams: int
    interval_us: int
    tokens: int
    rounds: int
    ramp: float = 0.0
    hold: float = 0.0

    @property
    def spread(self) -> float:
        return self.ramp or self.interval_us * self.tokens / 1e6

    @property
    def questions(self) -> int:
        return self.streams * self.rounds

    def pace(self, flows_at: int) -> str:
        pace = f"every {self.interval_us} us, {self.tokens} tokens"
        return f"{pace} from {flows_at} us" if self.hold else pace


async def drive(door: Door, profile: Profile) -> Tally:
    """Run a profile through a door. Each question has a connection of its own, opened before the clock starts."""
    tally = Tally(flows_at=now_us() + int(profile.hold * 1e6))
    pace = profile.pace(tally.flows_at)

    async def ask_again_and_again(worker: int) -> None:
        await asyncio.sleep(profile.spread * worker / profile.streams)
        for turn in range(profile.rounds):
            try:
                connection = await door.attach(tally)
            except (OSError, TimeoutError) as error:
                tally.errors.append(type(error).__name__)
                continue
            await connection.ask(door.question(worker * profile.rounds + turn, pace), profile.tokens)
            connection.transport.close()

    async with asyncio.TaskGroup() as group:
        for worker in range(profile.streams):
            group.create_task(ask_again_and_again(worker))
    return tally
