"""A turn's journal under whatever comes between: every reader has each event once and in order, and ends with the
stored answer, however often processes die, Redis forgets and readers come back.

The model: a runner appends, the journal writes at some moments, the process dies at others and another one takes over
from what is written; readers attach, leave and return with their cursors, here and elsewhere.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.conversations.journal import Journal, Kept, connect, entries_in, fence, key_of, pack, unpack
from apps.conversations.log import Entry, Log
from apps.conversations.takeover import kept_of
from chatbot.events import (
    START,
    Cursor,
    Event,
    Failed,
    Restarted,
    Source,
    Sources,
    Timings,
    Token,
    TurnFinished,
    TurnStarted,
    Usage,
)

SOURCE = Source(1, "c", "d", "Manual", ["First use"], 3, "Prime it.", 0.5)
EVERY_KIND: list[Event] = [
    TurnStarted("t", None, "q"),
    Sources([SOURCE]),
    Token("Prime \u2028 it\0"),
    Restarted(2, after=1),
    Restarted(2, after=0, reset=True),
    TurnFinished("t", "finished", "stop", "a", "Prime it.", Usage(1, 2, estimated=True), [SOURCE], Timings(1.0, None)),
    Failed("internal", "over", "t", "r", 3.5),
]


def test_a_page_gives_back_what_was_put_in() -> None:
    entries = [Entry(Cursor(3, seq), event) for seq, event in enumerate(EVERY_KIND, start=7)]
    assert unpack("3-13", pack(entries)) == entries


class Reader:
    """A client: what it has seen, without what it was told to forget."""

    def __init__(self) -> None:
        self.seen: list[Entry] = []
        self.cursor = START

    def read(self, log: Log, most: int) -> None:
        """Attach at the cursor, read a part, leave."""
        for entry in log.entries[log.place(self.cursor) :][:most]:
            assert entry.cursor > self.cursor
            self.cursor = entry.cursor
            self.seen.append(entry)

    @property
    def text(self) -> str:
        return "".join(event.text for _, event in kept_of(self.seen) if isinstance(event, Token))


class World:
    """One turn, the process that runs it, those before it that may wake up late, and a process that mirrors it."""

    def __init__(self, writer: Journal) -> None:
        self.writer = writer
        self.tenant, self.turn = uuid.uuid4(), uuid.uuid4()
        self.log = Log(1)
        self.log.append(TurnStarted("t", None, "q"))
        self.kept = Kept(key_of(self.tenant, self.turn), self.log)
        self.zombies: list[Kept] = []
        self.mirror = Log(0)
        self.mirrored = "0"
        self.said = 0
        self.readers = [Reader() for _ in range(3)]

    async def say(self, number: int) -> None:
        for _ in range(number):
            self.said += 1
            self.log.append(Token(f"{self.said} "))

    async def write(self, _: int = 0) -> None:
        await self.writer.flush(self.kept)

    async def here(self, number: int) -> None:
        self.readers[number].read(self.log, most=3)

    async def there(self, number: int) -> None:
        self.readers[number].read(self.mirror, most=3)

    async def late(self, number: int) -> None:
        """A process that hung goes on, and learns that it lost the turn; nothing of it gets into the journal."""
        if self.zombies:
            zombie, lost = self.zombies[-1], []
            zombie.lost = lambda: lost.append(True)
            for _ in range(number):
                zombie.log.append(Token("late "))
            await self.writer.flush(zombie)
            assert lost

    async def forget(self, _: int) -> None:
        """Redis loses everything while the process lives: it is written again."""
        if not self.zombies:
            await self.writer.redis.delete(self.kept.key)
            self.mirrored, self.mirror = "0", Log(0)

    async def die(self, _: int) -> None:
        """Another process claims the turn, and continues it or begins it again."""
        if self.log.epoch >= 5:
            return
        self.zombies.append(self.kept)
        epoch = self.log.epoch + 1
        entries = await fence(self.tenant, self.turn, epoch) or []
        self.log = Log(epoch, entries)
        told = kept_of(entries)
        last = entries[-1].cursor if entries else START
        self.kept = Kept(key_of(self.tenant, self.turn), self.log, last, Cursor(epoch, 0))
        if not told:
            self.log.append(Restarted(epoch, after=0, reset=True))
            self.log.append(TurnStarted("t", None, "q"))
        elif not any(isinstance(event, Token) for _, event in told):
            self.log.append(Restarted(epoch, after=1))
        elif epoch % 2:
            self.log.append(Restarted(epoch, after=self.log.last.seq))
        else:
            await self.writer.tell_first(self.kept, Restarted(epoch, after=1))

    async def look(self, _: int = 0) -> None:
        stream = await self.writer.redis.xrange(self.kept.key, min=f"({self.mirrored}" if self.mirrored != "0" else "-")
        if stream:
            self.mirrored = stream[-1][0].decode()
            self.mirror.extend(entries_in(stream))

    @property
    def text(self) -> str:
        return "".join(event.text for _, event in kept_of(self.log.entries) if isinstance(event, Token))


STEPS = st.one_of(
    st.tuples(st.just("say"), st.integers(1, 4)),
    st.tuples(st.just("write"), st.just(0)),
    st.tuples(st.just("die"), st.just(0)),
    st.tuples(st.just("late"), st.integers(1, 3)),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.sampled_from(["here", "there"]), st.integers(0, 2)),
    st.tuples(st.just("forget"), st.just(0)),
)


@pytest.fixture
async def writer(redis: None) -> AsyncIterator[Journal]:
    client = connect()
    yield Journal(client)
    await client.aclose()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=40))
def test_every_reader_ends_with_the_answer(redis: None, steps: list[tuple[str, int]]) -> None:
    async def walk() -> None:
        client = connect()
        try:
            await _walk(World(Journal(client)), steps)
        finally:
            await client.aclose()

    asyncio.run(walk())


async def _walk(world: World, steps: list[tuple[str, int]]) -> None:
    for step, number in steps:
        await getattr(world, step)(number)
    world.log.append(Failed("internal", "over", "t"))
    while world.kept.written < world.log.last:
        await world.write()
    await world.look()
    assert world.mirror.entries[-1] == world.log.entries[-1]
    for reader, log in zip(world.readers, (world.log, world.mirror, world.mirror), strict=True):
        reader.read(log, most=len(log.entries))
        assert reader.text == world.text
        assert [event.terminal for _, event in reader.seen].count(True) == 1


async def test_an_answer_that_got_lost_is_no_loss_of_the_turn(writer: Journal) -> None:
    world = World(writer)
    await world.write()
    world.log.append(Token("said "))
    before = (world.kept.written, world.kept.last_id)
    await world.write()
    world.kept.written, world.kept.last_id = before  # as if Redis had not answered
    lost: list[bool] = []
    world.kept.lost = lambda: lost.append(True)
    world.log.append(Token("once "))
    for _ in range(2):
        await world.write()
    await world.look()
    assert not lost
    assert world.mirror.entries == world.log.entries


async def test_what_redis_took_unheard_counts_as_taken(writer: Journal) -> None:
    """Its beginning is accepted, though nothing more comes for now, and what has ended is let go."""
    world = World(writer)
    writer.keep(world.kept)
    for end in ([], [Failed("internal", "over", "t")]):
        for event in end:
            world.log.append(event)
        before = (world.kept.written, world.kept.last_id)
        await writer.flush_all()
        world.kept.written, world.kept.last_id = before  # as if Redis had not answered
        world.kept.accepted.clear()
        writer.keep(world.kept)
        await writer.flush_all()
        assert world.kept.accepted.is_set()
        assert writer._kept == (set() if end else {world.kept})


@pytest.mark.parametrize("moment", range(12))
async def test_a_loop_ends_with_its_journal_whenever_that_is(redis: None, moment: int) -> None:
    """redis-py loses some cancellations; what has to end must end even so."""
    client = connect()
    writer = Journal(client)
    world = World(writer)
    writer.keep(world.kept)
    running = asyncio.create_task(writer.run())
    for _ in range(moment):
        await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=30)
    await client.aclose()
    assert done
