"""Keeps the events of this process's turns in Redis, a stream a turn, for readers elsewhere and for whoever takes over.

Every TICK one script writes what is new of all logs; the first event, the first token and the last event do not wait
for it. An entry's id is the cursor of its last event, so Redis itself refuses what a process writes that has lost its
turn: whoever took it over wrote `epoch-0` of the next epoch first. Redis may be away or lose what it had: the log in
memory is whole, and each write says what it expects to follow, so that what is missing is written again.
"""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from apps.conversations.log import Entry, Log
from apps.edge.errors import ServiceUnavailable
from apps.edge.shared_state import was_cancelled
from chatbot.events import START, Cursor, Event, Token, TurnFinished, read_event

log = structlog.get_logger(__name__)

TICK = 0.1
SECONDS = 0.5  # that Redis may take for an answer
SLICE = 64  # logs written by one call
RUNNING_FOR = 1800  # seconds that a journal outlives its latest entry while its turn runs
ENDED_FOR = 600  # and once the turn has ended: after that the stored message takes over
MOST = 5000  # entries; a turn of three minutes has 1,800
FIELD = "e"

# For each key: the id that should be last in it, the new id, the page, the seconds to live. What is not as it should be
# is told by the id that is last; a refusal of Redis' own by its words.
_WRITE = f"""
local told = {{}}
for i, key in ipairs(KEYS) do
    local at = (i - 1) * 4
    local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
    local id = last[1] and last[1][1] or '0-0'
    if id ~= ARGV[at + 1] then
        told[i] = id
    else
        local done = redis.pcall('XADD', key, 'MAXLEN', '~', '{MOST}', ARGV[at + 2], '{FIELD}', ARGV[at + 3])
        if type(done) == 'table' and done.err then
            told[i] = done.err
        else
            redis.call('EXPIRE', key, ARGV[at + 4])
            told[i] = ''
        end
    end
end
return told
"""


def key_of(tenant_id: uuid.UUID, turn_id: uuid.UUID) -> str:
    return f"parley:journal:{tenant_id}:{turn_id}"


@dataclass(slots=True, eq=False)
class Kept:
    """A log that is journaled. written: its events up to there are in Redis."""

    key: str
    log: Log
    written: Cursor = START
    last_id: Cursor = START  # of the stream, which may be a fence
    lost: Callable[[], object] = lambda: None  # called once another process has taken the turn over
    accepted: asyncio.Event = field(default_factory=asyncio.Event)  # set once Redis has its beginning


_Page = tuple[Cursor, bytes, int]  # of its last event, the events, seconds to live


class Journal:
    """One event loop's writer."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._kept: set[Kept] = set()
        self._hurry = asyncio.Event()
        self._alone = asyncio.Lock()  # writes follow each other: each says what it expects to follow
        self._script = redis.register_script(_WRITE)
        self._failing = False

    def keep(self, kept: Kept) -> None:
        """Journal this log from now on, until it has ended and is written, or is let go."""
        self._kept.add(kept)
        self._hurry.set()

    def let_go(self, kept: Kept) -> None:
        self._kept.discard(kept)

    def hurry(self) -> None:
        """Write at once what is new."""
        self._hurry.set()

    async def begun(self, kept: Kept) -> None:
        """Wait until Redis has the beginning. Raises ServiceUnavailable where it does not take it in time."""
        try:
            async with asyncio.timeout(SECONDS):
                await kept.accepted.wait()
        except TimeoutError as error:
            raise ServiceUnavailable("The service that keeps answers safe does not answer.", retry_after=5) from error

    async def flush(self, kept: Kept) -> None:
        """Have written what is new of one log, if Redis takes it."""
        async with self._alone:
            if kept.log.last > kept.written:
                await self._write([kept])

    async def tell_first(self, kept: Kept, event: Event) -> None:
        """Append an event that the journal must have before any reader: one that makes readers forget what it has.

        Whoever takes the turn over goes on from the journal, and would go on from what its readers no longer have.
        Raises ServiceUnavailable where Redis does not take it.
        """
        async with self._alone:
            while kept.log.last > kept.written and await self._write([kept]):
                pass
            entry = Entry(Cursor(kept.log.epoch, kept.log.next_seq), event)
            if kept.log.last <= kept.written:
                await self._write([kept], [(entry.cursor, pack([entry]), RUNNING_FOR)])
            if kept.written != entry.cursor:  # Redis is away, or the turn was taken over
                raise ServiceUnavailable(retry_after=5)
            kept.log.append(event)

    async def flush_all(self) -> None:
        """The same of all."""
        await self._tick()

    async def run(self) -> None:
        while not was_cancelled():
            await self._tick()
            try:
                async with asyncio.timeout(TICK):
                    await self._hurry.wait()
            except TimeoutError:
                pass

    async def _tick(self) -> None:
        self._hurry.clear()
        async with self._alone:
            news = [kept for kept in self._kept if kept.log.last > kept.written]
            for start in range(0, len(news), SLICE):
                if not await self._write(news[start : start + SLICE]):
                    return

    async def _write(self, news: Sequence[Kept], pages: Sequence[_Page] = ()) -> bool:
        """Write the next page of each log, or this one. False where Redis does not answer: the next tick tries."""
        pages = pages or [_page(kept) for kept in news]
        arguments: list[Any] = []
        for kept, (cursor, page, seconds) in zip(news, pages, strict=True):
            arguments += [str(kept.last_id), str(cursor), page, seconds]
        try:
            told = await self._script(keys=[kept.key for kept in news], args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._complain(error)
            return False
        self._failing = False
        for kept, (cursor, _, _), said in zip(news, pages, told, strict=True):
            self._hear(kept, cursor, said.decode())
        return True

    def _hear(self, kept: Kept, cursor: Cursor, said: str) -> None:
        if said:
            try:
                cursor = Cursor.parse(said)
            except ValueError:  # out of memory, or the like
                self._complain(RuntimeError(said))
                return
            if cursor.epoch > kept.log.epoch:
                self._kept.discard(kept)
                kept.lost()
                return
            # An answer that got lost, or a Redis that forgot: go on from what it has.
            self._hurry.set()
        kept.written = kept.last_id = cursor
        if cursor > START:
            kept.accepted.set()
        if kept.log.ended and kept.log.last == cursor:
            self._kept.discard(kept)

    def _complain(self, error: Exception) -> None:
        if not self._failing:
            log.warning("journal.not_written", error=type(error).__name__, said=str(error)[:100])
        self._failing = True


def _page(kept: Kept) -> _Page:
    """What comes next: events of one epoch, as many as there are."""
    entries = kept.log.entries
    start = kept.log.place(kept.written)
    stop, epoch = len(entries), entries[start].cursor.epoch
    if epoch != entries[-1].cursor.epoch:
        stop = kept.log.place(Cursor(epoch, 2**63))
    new = entries[start:stop]
    last = new[-1]
    return last.cursor, pack(new), ENDED_FOR if last.event.terminal else RUNNING_FOR


def pack(entries: Sequence[Entry]) -> bytes:
    """Events of one epoch, one after the other: the first one's seq, and of each its text, or its type and fields."""
    return orjson.dumps([entries[0].cursor.seq, [_plain(event) for _, event in entries]])


def _plain(event: Event) -> Any:
    if isinstance(event, Token):
        return event.text
    if isinstance(event, TurnFinished) and not event.timings.degraded:
        body = event.payload()
        del body["timings"]["degraded"]  # which the release before cannot read
        return [event.type, body]
    return [event.type, event]


def unpack(place: str, page: bytes) -> list[Entry]:
    """The entries of a page. Raises ValueError, KeyError or TypeError where it is none."""
    epoch = Cursor.parse(place).epoch
    first, events = orjson.loads(page)
    return [
        Entry(Cursor(epoch, seq), Token(event) if isinstance(event, str) else read_event(*event))
        for seq, event in enumerate(events, start=first)
    ]


def entries_in(stream: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[Entry]:
    """What a stream holds, without its fences."""
    entries: list[Entry] = []
    for place, fields in stream:
        if page := fields.get(FIELD.encode()):
            entries += unpack(place.decode(), page)
    return entries


# --- One for each event loop ------------------------------------------------------------------------------------------

_journals: dict[asyncio.AbstractEventLoop, tuple[Journal, AsyncGenerator[Journal]]] = {}


async def journal() -> Journal:
    """This event loop's."""
    loop = asyncio.get_running_loop()
    if loop not in _journals:
        holder = _hold(loop)
        _journals[loop] = await anext(holder), holder
    return _journals[loop][0]


async def _hold(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[Journal]:
    # A generator, because a loop that ends closes its generators.
    redis = connect()
    writer = Journal(redis)
    task = loop.create_task(writer.run(), context=contextvars.Context())
    try:
        yield writer
    finally:
        del _journals[loop]
        task.cancel()
        await redis.aclose()


def connect(seconds: float | None = SECONDS) -> Redis:
    """A client of journals. seconds: that an answer may take."""
    return Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=seconds,
        socket_connect_timeout=SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


# --- Taking over ------------------------------------------------------------------------------------------------------


async def fence(tenant_id: uuid.UUID, turn_id: uuid.UUID, epoch: int) -> list[Entry] | None:
    """Let nobody of an earlier epoch write any more, and give what was written; None where Redis does not tell."""
    redis = (await journal()).redis
    key = key_of(tenant_id, turn_id)
    try:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.xadd(key, {"f": ""}, id=f"{epoch}-0")
            pipe.expire(key, RUNNING_FOR)
            pipe.xrange(key)
            _, _, stream = await pipe.execute(raise_on_error=False)
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("journal.not_fenced", error=type(error).__name__)
        return None
    return None if isinstance(stream, Exception) else entries_in(stream)


async def whole(tenant_id: uuid.UUID, turn_id: uuid.UUID) -> list[Entry]:
    """Everything that is journaled of a turn; nothing where Redis does not tell, asked once more: it may be busy."""
    redis: Any = (await journal()).redis
    for _ in range(2):
        with suppress(RedisError, OSError, TimeoutError):
            return entries_in(await redis.xrange(key_of(tenant_id, turn_id)))
    return []


def is_whole(entries: Sequence[Entry]) -> bool:
    """Whether these reach from a turn's beginning to its end."""
    return bool(entries) and entries[0].cursor.seq == 1 and entries[-1].event.terminal
