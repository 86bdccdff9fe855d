"""Who reads a turn that another process ended: word by word, from where they stood, while its journal lasts."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from typing import Any

import pytest
from django.db.models.functions import Now
from redis.exceptions import TimeoutError as RedisTimeoutError

from apps.conversations import journal, mirror, runner, stored
from apps.conversations.models import Turn
from chatbot.events import START
from tests.apps.conversations.conftest import Api, World, read_sse


@pytest.mark.parametrize("seconds", [0.3, 2.0])
async def test_who_comes_between_the_end_and_its_journal_is_not_told_anew(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """The process that ended the turn is another one, and writes its last words a moment later, or a busy one's two."""
    monkeypatch.setattr(stored, "LATELY", dt.timedelta(seconds=60))  # a busy machine reads late, too
    seen, key, last = await _ended_without_last_words(world, api, monkeypatch)
    redis = (await journal.journal()).redis

    async def written() -> None:
        await asyncio.sleep(seconds)
        await redis.xadd(key, last[1], id=last[0])

    follows = await api.get(f"/api/v1/turns/{seen[0].body['turn']}/events?after={seen[2].cursor}")
    writing = asyncio.create_task(written())
    assert [event async for event in read_sse(follows)] == seen[3:]
    await writing


async def test_an_end_that_is_long_past_is_not_waited_for(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died before it wrote its last words; many readers will come, and the journal may be long."""
    seen, _, _ = await _ended_without_last_words(world, api, monkeypatch)
    turn = await world.only_turn()
    await Turn.objects.filter(pk=turn.pk).aupdate(closed_at=Now() - dt.timedelta(minutes=1))
    before = await _reads_of_streams()
    follows = await api.get(f"/api/v1/turns/{turn.pk}/events?after={seen[2].cursor}")
    told = [event async for event in read_sse(follows)]
    assert [event.type for event in told] == ["restarted", "turn.started", "sources", "token", "turn.finished"]
    assert told[-1] == seen[-1]
    assert await _reads_of_streams() == before + 1


async def test_a_redis_that_is_late_once_lets_nobody_begin_again(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = await api.ask(world.turns, "pump?", Accept="text/event-stream")
    seen = [event async for event in read_sse(response)]
    writer = await journal.journal()
    await writer.flush_all()
    monkeypatch.setattr(runner, "_running", {})
    read, late = writer.redis.xrange, iter([RedisTimeoutError()])

    async def xrange(key: str) -> Any:
        for error in late:
            raise error
        return await read(key)

    monkeypatch.setattr(writer.redis, "xrange", xrange)
    follows = await api.get(f"/api/v1/turns/{seen[0].body['turn']}/events?after={seen[1].cursor}")
    assert [event async for event in read_sse(follows)] == seen[2:]


async def test_who_follows_is_not_told_anew_because_the_last_words_are_late(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader's process was busy: it looks the turn up before it has read what the journal has got."""
    world.script("a ", "b ", "c ", "d")
    await api.ask(world.turns, "pump?")
    turn = await world.only_turn()
    await (await journal.journal()).flush_all()
    kept = await journal.whole(world.tenant.pk, turn.pk)
    looked, may_look = [], threading.Event()
    look_up = stored.turn_with

    def once_and_then_later(*args: Any) -> Turn:
        if looked:
            assert may_look.wait(60)
        looked.append(1)
        return look_up(*args)

    monkeypatch.setattr(stored, "turn_with", once_and_then_later)
    monkeypatch.setattr(mirror, "SILENCE", 0.01)
    mirrors = mirror.Mirrors(asyncio.get_running_loop())
    looking = asyncio.create_task(mirrors.look())

    async def read_late() -> None:
        while not looked:  # noqa: ASYNC110 - by another thread
            await asyncio.sleep(0.01)
        await mirrors.run()

    reading = asyncio.create_task(read_late())
    try:
        async with asyncio.timeout(60):
            told = [one async for some in mirrors.follow(world.tenant.pk, turn.pk, START, idle=None) for one in some]
        assert told == kept
    finally:
        may_look.set()
        for task in (looking, reading):
            task.cancel()
        await asyncio.gather(looking, reading, return_exceptions=True)
        await mirrors.redis.aclose()
        await mirrors.nudging.aclose()


async def _ended_without_last_words(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, str, Any]:
    """What was told of a turn that another process has just ended, the key of its journal, and its missing page."""
    world.script("a ", "b ", "c ", "d", delay=0.15)
    response = await api.ask(world.turns, "pump?", Accept="text/event-stream")
    seen = [event async for event in read_sse(response)]
    turn = await world.only_turn()
    monkeypatch.setattr(runner, "_running", {})
    redis, key = (await journal.journal()).redis, journal.key_of(world.tenant.pk, turn.pk)
    while not journal.is_whole(await journal.whole(world.tenant.pk, turn.pk)):  # noqa: ASYNC110 - in Redis
        await asyncio.sleep(0.02)
    *pages, last = await redis.xrange(key)
    await redis.delete(key)
    for page, fields in pages:
        await redis.xadd(key, fields, id=page)
    await Turn.objects.filter(pk=turn.pk).aupdate(closed_at=Now())
    return seen, key, last


async def _reads_of_streams() -> int:
    told = await (await journal.journal()).redis.info("commandstats")
    return sum(told.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("xrange", "xrevrange"))
