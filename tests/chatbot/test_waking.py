"""Questions that find nothing but a dedicated endpoint that sleeps: they start it once, wait for it, and hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from chatbot.errors import ModelBusy, ModelTimeout, ModelUnavailable
from chatbot.inference import waking
from chatbot.inference.asker import Asker
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Deadlines, Endpoint
from chatbot.inference.pool import Pool
from chatbot.inference.story import Story
from chatbot.inference.wire import ChatRequest, Message
from tests.fakes.hub import TOKEN, Behind, FakeHub, Kept
from tests.fakes.inference import FakeInference, Reply, make_endpoint

REQUEST = ChatRequest((Message("user", "Hello?"),), max_tokens=64)
ANSWER = "You asked: Hello? [1]"
POLL, TELL_EVERY = 0.05, 0.1


@dataclass
class Scene:
    """One endpoint that sleeps at the Hub, by the id "s", and its server."""

    hub: FakeHub
    kept: Kept
    fake: FakeInference
    pool: Pool
    endpoint: Endpoint

    def change(self, *others: Endpoint, **fields: Any) -> None:
        self.endpoint = replace(self.endpoint, **fields)
        self.pool.replace([self.endpoint, *others])

    async def ask(self, *ids: str, asker: Asker | None = None, story: Story | None = None) -> str:
        async with self.pool.chat(ids or ("s",), REQUEST, asker or Asker(), story=story) as answer:
            return "".join([delta.text async for delta in answer])


@pytest.fixture
async def scene(client: Client, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(waking, "POLL", POLL)
    monkeypatch.setattr(waking, "TELL_EVERY", TELL_EVERY)
    monkeypatch.setattr("chatbot.inference.pool.POLL", POLL)
    kept = Kept("acme/sleeper", "", "scaledToZero")
    async with FakeHub(kept) as hub, FakeInference(dialect=Behind(kept)) as fake:
        hub.point_at(monkeypatch)
        kept.url = fake.base_url
        endpoint = make_endpoint(fake, id="s", protocol="hf", api_key=TOKEN, wake_seconds=30.0)
        yield Scene(hub, kept, fake, Pool(client, [endpoint]), endpoint)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_it_is_started_waited_for_and_answers(scene: Scene) -> None:
    scene.kept.states = ["initializing"] * 6 + ["running"]
    heard: list[str] = []
    story = Story()
    assert await scene.ask(asker=Asker("acme", on_waking=heard.append), story=story) == ANSWER
    assert scene.hub.resumed == 1
    assert heard[0] == "asked"
    assert "initializing" in heard
    assert [attempt.error for attempt in story.attempts] == ["model_unavailable", ""]
    assert story.woken_ms > 200
    assert scene.pool.states()[0].in_flight == 0


async def test_a_paused_one_is_known_by_its_name(scene: Scene) -> None:
    scene.kept.state = "paused"
    scene.change(hub_name="acme/sleeper")
    assert await scene.ask() == ANSWER
    assert scene.hub.resumed == 1


async def test_many_questions_start_it_once(scene: Scene) -> None:
    scene.hub.delay = 0.05
    assert await asyncio.gather(*(scene.ask() for _ in range(12))) == [ANSWER] * 12
    assert scene.hub.resumed == 1


@pytest.mark.parametrize("state", ["paused", "scaledToZero"])
async def test_many_processes_start_it_once(scene: Scene, state: str) -> None:
    scene.kept.state = state
    scene.hub.delay = 0.05
    scene.change(hub_name="acme/sleeper")
    clients = [Client(allowed=["127.0.0.1"]) for _ in range(3)]
    pools = [Pool(client, [scene.endpoint]) for client in clients]
    answers = await asyncio.gather(*(replace(scene, pool=pool).ask() for pool in pools))
    assert answers == [ANSWER] * 3
    assert scene.hub.resumed > 1  # each saw it asleep
    assert scene.kept.started == 1
    for client in clients:
        await client.close()


async def test_one_that_starts_already_is_not_started_again(scene: Scene) -> None:
    scene.kept.state, scene.kept.started = "initializing", 1
    assert await scene.ask() == ANSWER
    assert scene.hub.resumed == 0


async def test_who_waits_hears_of_it_every_few_seconds(scene: Scene) -> None:
    scene.kept.states = ["initializing"]
    looks: list[int] = []  # at the Hub until then, which tell the time better than a busy machine's clock
    asking = asyncio.create_task(scene.ask(asker=Asker(on_waking=lambda _: looks.append(len(scene.hub.asked)))))
    await until(lambda: len(looks) > 6)
    asking.cancel()
    assert max(later - earlier for earlier, later in pairwise(looks)) <= 5 * TELL_EVERY / POLL


def test_a_few_seconds_are_less_than_five() -> None:
    from chatbot.inference import pool  # noqa: PLC0415 - as it is without the fixture

    assert waking.TELL_EVERY < 5
    assert pool.POLL < 5


async def test_without_a_time_to_wait_it_says_at_once_that_it_sleeps(scene: Scene) -> None:
    scene.change(wake_seconds=0.0)
    with pytest.raises(ModelUnavailable, match="asleep") as refused:
        await scene.ask()
    assert refused.value.retry_after == 60
    assert not scene.hub.asked


@pytest.mark.parametrize("fields", [{"wake_seconds": 1.0}, {"deadlines": Deadlines(total=1.0)}])
async def test_where_it_is_not_there_in_time_the_error_is_honest(scene: Scene, fields: dict[str, Any]) -> None:
    scene.kept.states = ["initializing"]
    scene.change(**fields)
    began = asyncio.get_running_loop().time()
    with pytest.raises(ModelUnavailable, match="not there in time") as refused:
        await scene.ask()
    assert refused.value.retry_after
    assert 1.0 <= asyncio.get_running_loop().time() - began < 20  # of the 30 that the other would allow
    assert scene.pool.states()[0].in_flight == 0


async def test_the_wait_counts_as_part_of_the_longest_answer(scene: Scene) -> None:
    total, delay, looks = 2.0, 0.02, 10
    scene.fake.script(Reply(tokens=["a "], endless=True, delay=delay))
    scene.kept.states = ["initializing"] * looks + ["running"]
    scene.change(deadlines=Deadlines(total=total))
    heard = 0
    with pytest.raises(ModelTimeout):  # noqa: PT012 - how much was said before is what is tested
        async with scene.pool.chat(("s",), REQUEST, Asker()) as answer:
            async for _ in answer:
                heard += 1
    assert 0 < heard <= (total - looks * POLL) / delay


async def test_stopping_ends_the_wait_and_leaves_the_others_theirs(scene: Scene) -> None:
    scene.kept.states = ["initializing"] * 20 + ["running"]
    first, second = (asyncio.create_task(scene.ask()) for _ in range(2))
    await until(lambda: scene.hub.resumed)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == ANSWER
    assert scene.hub.resumed == 1


async def test_when_nobody_waits_nobody_looks(scene: Scene) -> None:
    scene.kept.states = ["initializing"]
    task = asyncio.create_task(scene.ask())
    await until(lambda: scene.hub.resumed)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(2 * POLL)
    looked = len(scene.hub.asked)
    await asyncio.sleep(4 * POLL)
    assert len(scene.hub.asked) == looked
    scene.kept.states = ["running"]
    assert await scene.ask() == ANSWER  # and the next one watches again
    assert scene.hub.resumed == 1


async def test_one_that_fails_to_start_says_so(scene: Scene) -> None:
    scene.kept.states = ["initializing", "failed"]
    with pytest.raises(ModelUnavailable, match="does not start") as refused:
        await scene.ask()
    assert refused.value.retry_after


async def test_a_token_that_may_not_start_it_is_told(scene: Scene) -> None:
    scene.change(api_key="hf_of_a_reader")
    with pytest.raises(ModelUnavailable, match="does not let this token") as refused:
        await scene.ask()
    assert refused.value.retry_after


async def test_a_hub_that_is_away_for_a_while_is_asked_again(scene: Scene) -> None:
    scene.hub.status = 503
    task = asyncio.create_task(scene.ask())
    await until(lambda: len(scene.hub.asked) > 2)
    scene.hub.status = 0
    assert await task == ANSWER


async def test_one_that_runs_and_does_not_answer_yet_is_asked_again(scene: Scene) -> None:
    scene.fake.dialect.late = 2  # type: ignore[attr-defined]
    assert await scene.ask() == ANSWER
    assert len(scene.fake.requests) == 4


async def test_nobody_waits_where_another_one_answers(scene: Scene) -> None:
    async with FakeInference() as awake:
        scene.change(make_endpoint(awake, id="awake", tier=1))
        assert await scene.ask("s", "awake") == ANSWER
        assert len(awake.requests) == 1
    assert not scene.hub.asked


async def test_nobody_waits_where_another_one_is_only_busy(scene: Scene) -> None:
    async with FakeInference() as busy:
        busy.script(Reply(status=429))
        scene.change(make_endpoint(busy, id="busy", tier=1))
        with pytest.raises(ModelBusy):
            await scene.ask("s", "busy")
    assert not scene.hub.asked


async def test_another_one_that_comes_back_meanwhile_answers(scene: Scene) -> None:
    scene.kept.states = ["initializing"]
    async with FakeInference() as other:
        scene.change(make_endpoint(other, id="other", tier=1))
        other.script(*[Reply(status=500)] * 5)
        for _ in range(5):
            with pytest.raises(Exception, match="500"):
                await scene.ask("other")
        task = asyncio.create_task(scene.ask("s", "other"))
        await until(lambda: scene.hub.resumed)
        scene.pool.reset("other")
        assert await task == ANSWER
        assert len(other.requests) == 6


async def test_a_breaker_that_opened_meanwhile_is_no_hindrance(scene: Scene) -> None:
    scene.change(wake_seconds=0.0)
    for _ in range(6):
        with pytest.raises(ModelUnavailable):
            await scene.ask()
    assert scene.pool.states()[0].state == "open"
    scene.change(wake_seconds=30.0)
    assert await scene.ask() == ANSWER
    assert scene.pool.states()[0].state == "closed"
