"""A turn's log under readers that come, go, lag and return."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.conversations.log import Log
from chatbot.events import START, Cursor, Failed, Token


def ended_log(texts: list[str]) -> Log:
    log = Log(1)
    for text in texts:
        log.append(Token(text))
    log.append(Failed("internal", "over", "t"))
    return log


@given(st.lists(st.text(), max_size=20), st.data())
def test_reading_in_two_parts_equals_reading_at_once(texts: list[str], data: st.DataObject) -> None:
    log = ended_log(texts)
    place = data.draw(st.integers(0, len(log.entries)))
    after = log.entries[place - 1].cursor if place else START

    async def read(cursor: Cursor) -> list[object]:
        return [entry async for batch in log.follow(cursor) for entry in batch]

    assert asyncio.run(read(after)) == log.entries[place:]


async def test_readers_that_join_at_any_moment_see_everything_once() -> None:
    log = Log(1)

    async def read(delay: float) -> str:
        await asyncio.sleep(delay)
        events = [entry.event async for batch in log.follow(START) for entry in batch]
        return "".join(event.text for event in events if isinstance(event, Token))

    readers = [asyncio.create_task(read(n / 1000)) for n in range(50)]
    for n in range(100):
        log.append(Token(f"{n} "))
        await asyncio.sleep(0.0005)
    log.append(Failed("internal", "over", "t"))
    assert set(await asyncio.gather(*readers)) == {"".join(f"{n} " for n in range(100))}


async def test_silence_is_told() -> None:
    log = Log(1)
    follower = log.follow(START, idle=0.01)
    assert await anext(follower) == []
    log.append(Token("x"))
    assert len(await anext(follower)) == 1


async def test_a_reader_who_has_the_end_gets_nothing_more() -> None:
    log = ended_log(["a"])
    assert [batch async for batch in log.follow(log.entries[-1].cursor)] == []


async def test_a_cursor_of_an_earlier_epoch_begins_at_the_start() -> None:
    log = Log(2)
    log.append(Failed("internal", "over", "t"))
    (batch,) = [batch async for batch in log.follow(Cursor(1, 99))]
    assert batch == log.entries


@pytest.mark.parametrize("text", ["", "1", "-", "1-", "-1", "a-b", "1-2-3", "1-²", " 1-2", "1" * 30 + "-1"])
def test_cursors_are_read_strictly(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.parse(text)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_cursors_survive_their_text(epoch: int, seq: int) -> None:
    assert Cursor.parse(str(Cursor(epoch, seq))) == Cursor(epoch, seq)


async def test_a_reader_who_is_ahead_of_the_log_gets_what_lies_beyond_it() -> None:
    whole, mirror = ended_log(["a", "b", "c"]), Log(0)
    follower = mirror.follow(Cursor(1, 2), idle=5)
    reading = asyncio.create_task(anext(follower))
    for entry in whole.entries:
        await asyncio.sleep(0)
        mirror.extend([entry])
    first = await reading
    rest = [entry async for batch in follower for entry in batch]
    assert first + rest == whole.entries[2:]


async def test_a_cursor_beyond_the_end_ends_with_the_log() -> None:
    log = Log(1)
    reading = asyncio.create_task(_all(log, Cursor(9, 9)))
    await asyncio.sleep(0)
    log.append(Failed("internal", "over", "t"))
    assert await reading == []


async def _all(log: Log, after: Cursor) -> list[object]:
    return [entry async for batch in log.follow(after) for entry in batch]
