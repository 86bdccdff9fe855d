"""Reranking through the pool: any endpoint of the kind, another where one fails, its place in the line, and probes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from chatbot.errors import ModelBusy, ModelFailed, ModelUnavailable
from chatbot.inference.asker import Asker, Rank
from chatbot.inference.client import Client
from chatbot.inference.pool import Pool
from chatbot.inference.state import Change
from chatbot.inference.story import Story
from tests.fakes.inference import FakeInference, Reply, make_endpoint

QUERY, TEXTS = "pump", ["money", "the pump"]


@pytest.fixture
async def pool(fake: FakeInference, client: Client) -> Pool:
    return Pool(
        client,
        [
            make_endpoint(fake, id="r", kind="rerank", model="r", limit=1),
            make_endpoint(fake, id="s", kind="rerank", model="s", limit=1, tier=1),
            make_endpoint(fake, id="chat"),
        ],
    )


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def asked(fake: FakeInference) -> list[str]:
    return [request.payload["model"] for request in fake.requests]


async def test_one_of_the_lowest_tier_scores_all(pool: Pool, fake: FakeInference) -> None:
    low, high = await pool.rerank(["s", "chat", "r"], QUERY, TEXTS)
    assert low < high
    assert asked(fake) == ["r"]


async def test_another_steps_in(pool: Pool, fake: FakeInference) -> None:
    fake.script(Reply(kind="rerank", garbage="{}"))
    story = Story()
    low, high = await pool.rerank(["r", "s"], QUERY, TEXTS, story=story)
    assert low < high
    assert asked(fake) == ["r", "s"]
    assert [attempt.error for attempt in story.attempts] == ["model_failed", ""]
    assert [state.in_flight for state in pool.states()] == [0, 0, 0]


async def test_those_of_another_kind_are_not_asked(pool: Pool, fake: FakeInference) -> None:
    with pytest.raises(ModelUnavailable, match="No rerank endpoint"):
        await pool.rerank(["chat", "gone"], QUERY, TEXTS)
    assert not fake.requests


async def test_it_waits_for_a_place_behind_all_but_ingestion(pool: Pool, fake: FakeInference) -> None:
    fake.script(Reply(kind="rerank", first_delay=0.3))
    running = asyncio.create_task(pool.rerank(["r"], QUERY, TEXTS))
    await until(lambda: fake.requests)
    waits = asyncio.create_task(pool.rerank(["r"], QUERY, TEXTS, Asker("acme", rank=Rank.INTERACTIVE)))
    await until(lambda: pool._desk.admission.waiting)
    assert [ticket.rank for ticket in pool._desk.admission._queue()] == [Rank.RERANKING]
    await asyncio.gather(running, waits)
    assert asked(fake) == ["r", "r"]


async def test_who_waits_too_long_is_refused(pool: Pool, fake: FakeInference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatbot.inference.pool.LONGEST_WAIT", 0.1)
    fake.script(Reply(kind="rerank", first_delay=0.5))
    running = asyncio.create_task(pool.rerank(["r"], QUERY, TEXTS))
    await until(lambda: fake.requests)
    with pytest.raises(ModelBusy):
        await pool.rerank(["r"], QUERY, TEXTS)
    await running


async def test_a_broken_one_is_tried_by_ranking_something(pool: Pool, fake: FakeInference) -> None:
    changes: list[Change] = []
    pool.on_change = changes.append
    fake.script(*[Reply(kind="rerank", status=500)] * 6)
    for _ in range(5):
        with pytest.raises(ModelFailed):
            await pool.rerank(["r"], QUERY, TEXTS)
    server = pool._desk.fleet.sites["r"].servers["127.0.0.1"]
    server.breaker.reopens_at = 0.0  # as if its rest were over
    await until(lambda: len(fake.requests) == 6)
    assert fake.requests[5].payload["documents"] == ["hello"]
    await until(lambda: server.breaker.state == "open")  # that was no answer, either
    server.breaker.reopens_at = 0.0
    await until(lambda: server.breaker.state == "closed")
    assert [change.what for change in changes][-1] == "breaker.closed"
