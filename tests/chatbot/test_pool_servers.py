"""The pool's servers: many behind a name, slots that are shared, breakers that only a real answer closes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from chatbot.errors import ModelBusy, ModelFailed, ModelUnavailable
from chatbot.inference import attending
from chatbot.inference.asker import Asker, Rank, Waiting
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Deadlines
from chatbot.inference.pool import Pool
from chatbot.inference.state import Change, ServerLoad
from chatbot.inference.story import Story
from chatbot.inference.wire import ChatRequest, Message
from tests.fakes.dialects import VLLM
from tests.fakes.inference import FakeInference, Reply, make_endpoint
from tests.fakes.machine import Load

REQUEST = ChatRequest((Message("user", "What is Parley?"),), max_tokens=64)
SHORT = Deadlines(first_token=0.5, between_tokens=0.5)
NAME = "models.example"


async def hear(pool: Pool, *ids: str, asker: Asker | None = None, story: Story | None = None) -> str:
    """The address that answered."""
    async with pool.chat(ids, REQUEST, asker or Asker(), story=story) as answer:
        async for _ in answer:
            pass
        return answer.address


async def until(holds: Callable[[], object], timeout: float = 30.0) -> None:
    async with asyncio.timeout(timeout):
        while not holds():  # noqa: ASYNC110 - what is awaited happens in the pool, which sets no event for tests
            await asyncio.sleep(0.01)


def told(changes: list[Change], what: str) -> list[Change]:
    return [change for change in changes if change.what == what]


@pytest.fixture
async def named(fake: FakeInference) -> AsyncIterator[Client]:
    client = Client(allowed=["127.0.0.1", NAME])
    yield client
    await client.close()


class Names:
    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        assert (host, port > 0) == (NAME, True)
        self.asked += 1
        return self.addresses


async def test_each_address_of_a_name_is_a_server_of_its_own(named: Client, fake: FakeInference) -> None:
    # The fake listens on 127.0.0.1 alone, so that 127.0.0.2 refuses connections.
    names = Names("127.0.0.1", "127.0.0.2")
    pool = Pool(named, [make_endpoint(fake, id="a", base_url=f"http://{NAME}:{fake.port}")], resolve=names)
    heard = [await hear(pool, "a") for _ in range(20)]
    assert set(heard) == {"127.0.0.1"}
    assert {request.headers["Host"] for request in fake.requests} == {f"{NAME}:{fake.port}"}
    states = {state.address: state for state in pool.states()}
    assert set(states) == {"127.0.0.1", "127.0.0.2"}
    assert states["127.0.0.1"].state == "closed"
    assert states["127.0.0.2"].last_failure == "The model server cannot be reached."


async def test_an_address_that_is_not_public_is_refused_unless_its_name_is_allowed(fake: FakeInference) -> None:
    strict = Client()
    pool = Pool(
        strict, [make_endpoint(fake, id="a", base_url=f"http://{NAME}:{fake.port}")], resolve=Names("127.0.0.1")
    )
    with pytest.raises(ModelFailed, match="not public"):
        await hear(pool, "a")
    assert not fake.requests
    await strict.close()


async def test_a_name_is_looked_up_again_at_once_after_a_connection_error(named: Client, fake: FakeInference) -> None:
    names = Names("127.0.0.2")
    pool = Pool(named, [make_endpoint(fake, id="a", base_url=f"http://{NAME}:{fake.port}")], resolve=names)
    changes: list[Change] = []
    pool.on_change = changes.append
    await pool._attendant.ready(["a"])
    names.addresses = ["127.0.0.1"]
    with pytest.raises(ModelUnavailable):
        await hear(pool, "a")
    await until(lambda: told(changes, "server.gone"))
    assert [change.address for change in told(changes, "server.found")] == ["127.0.0.2", "127.0.0.1"]
    assert await hear(pool, "a") == "127.0.0.1"


async def test_a_server_that_comes_back_is_no_better_than_it_was(named: Client, fake: FakeInference) -> None:
    names = Names("127.0.0.1", "127.0.0.2")
    pool = Pool(named, [make_endpoint(fake, id="a", base_url=f"http://{NAME}:{fake.port}")], resolve=names)
    await hear(pool, "a")
    server = pool._desk.fleet.sites["a"].servers["127.0.0.1"]
    for addresses in (["127.0.0.2"], ["127.0.0.1", "127.0.0.2"]):
        names.addresses = addresses
        await pool._attendant.look_up(pool._desk.fleet.sites["a"])
    assert pool._desk.fleet.sites["a"].servers["127.0.0.1"] is server
    assert not server.gone


async def test_where_a_name_cannot_be_looked_up_connecting_tells_why(named: Client, fake: FakeInference) -> None:
    async def lost(_host: str, _port: int) -> list[str]:
        raise OSError

    pool = Pool(named, [make_endpoint(fake, id="a", base_url="http://nowhere.invalid")], resolve=lost)
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        await hear(pool, "a")


async def test_of_two_endpoints_one_dies_and_no_question_is_lost(client: Client) -> None:
    async with FakeInference() as lives, AsyncExitStack() as stack:
        dies = await stack.enter_async_context(FakeInference())
        pool = Pool(client, [make_endpoint(lives, id="lives"), make_endpoint(dies, id="dies")])
        changes: list[Change] = []
        pool.on_change = changes.append
        await asyncio.gather(*(hear(pool, "lives", "dies") for _ in range(8)))
        assert dies.requests
        await stack.aclose()
        await asyncio.gather(*(hear(pool, "lives", "dies") for _ in range(64)))
    assert [change.endpoint for change in told(changes, "breaker.opened")] == ["dies"]


async def test_overload_shrinks_the_limit_and_opens_no_breaker(client: Client, fake: FakeInference) -> None:
    pool = Pool(client, [make_endpoint(fake, id="a")])
    changes: list[Change] = []
    pool.on_change = changes.append
    fake.script(Reply(status=429, always=True))
    for _ in range(12):
        with pytest.raises(ModelBusy):
            await hear(pool, "a")
    (state,) = pool.states()
    assert state.state == "closed"
    assert state.limit < 32 * 0.8**10
    assert told(changes, "limit.shrunk")
    assert not told(changes, "breaker.opened")


async def test_a_wrong_key_says_nothing_of_a_servers_health(client: Client, fake: FakeInference) -> None:
    pool = Pool(client, [make_endpoint(fake, id="a")])
    fake.script(Reply(status=401, always=True))
    for _ in range(6):
        with pytest.raises(ModelFailed):
            await hear(pool, "a")
    (state,) = pool.states()
    assert state.state == "closed"
    assert state.last_failure == "The model server does not accept our key (401)."


async def test_a_broken_server_is_left_alone_until_a_probe_is_answered(client: Client, fake: FakeInference) -> None:
    pool = Pool(client, [make_endpoint(fake, id="a")])
    changes: list[Change] = []
    pool.on_change = changes.append
    fake.script(*[Reply(status=500)] * 5)
    for _ in range(5):
        with pytest.raises(ModelFailed):
            await hear(pool, "a")
    with pytest.raises(ModelUnavailable) as refused:
        await hear(pool, "a")
    assert refused.value.retry_after is not None
    assert len(fake.requests) == 5
    pool._desk.fleet.sites["a"].servers["127.0.0.1"].breaker.reopens_at = 0.0  # as if its rest were over
    await until(lambda: told(changes, "breaker.closed"))
    assert fake.requests[5].payload["max_tokens"] == attending.PROBE.max_tokens
    assert [change.what for change in changes] == ["breaker.opened", "breaker.half_open", "breaker.closed"]
    assert await hear(pool, "a") == "127.0.0.1"


async def test_a_stuck_server_is_probed_and_gets_nothing_new(
    client: Client, fake: FakeInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attending, "PROBE_WAIT", 0.5)
    pool = Pool(client, [make_endpoint(fake, id="a", deadlines=SHORT)])
    changes: list[Change] = []
    pool.on_change = changes.append
    fake.script(Reply(hang_after=0, always=True))
    with pytest.raises(Exception, match="too long"):
        await hear(pool, "a")
    await until(lambda: told(changes, "breaker.opened"))
    asked = len(fake.requests)
    with pytest.raises(ModelUnavailable):
        await hear(pool, "a")
    assert len(fake.requests) == asked == 2


async def test_an_operator_closes_a_breaker(client: Client, fake: FakeInference) -> None:
    pool = Pool(client, [make_endpoint(fake, id="a")])
    fake.script(*[Reply(status=500)] * 5)
    for _ in range(5):
        with pytest.raises(ModelFailed):
            await hear(pool, "a")
    pool.reset("a")
    assert await hear(pool, "a") == "127.0.0.1"


async def test_who_waits_is_told_and_served(client: Client, fake: FakeInference) -> None:
    pool = Pool(client, [make_endpoint(fake, id="a", limit=1)])
    places: list[Waiting] = []
    story = Story()
    async with pool.chat(["a"], REQUEST):
        waits = asyncio.create_task(hear(pool, "a", asker=Asker("acme", on_wait=places.append), story=story))
        await until(lambda: places)
        assert pool.states()[0].waiting == 1
    await waits
    assert places == [Waiting(1, None)]
    assert story.queued_ms > 0
    assert (pool.states()[0].in_flight, pool.states()[0].waiting) == (0, 0)


async def test_who_leaves_the_queue_takes_nothing_along(client: Client, fake: FakeInference) -> None:
    pool = Pool(client, [make_endpoint(fake, id="a", limit=1)])
    async with pool.chat(["a"], REQUEST):
        waits = [asyncio.create_task(hear(pool, "a")) for _ in range(3)]
        await until(lambda: pool.states()[0].waiting == 3)
        waits[0].cancel()
    waits[1].cancel()  # it may have its slot already, and has not heard of it
    assert await waits[2] == "127.0.0.1"
    await asyncio.gather(*waits, return_exceptions=True)
    assert (pool.states()[0].in_flight, pool.states()[0].waiting) == (0, 0)


async def test_who_waits_too_long_is_refused(
    client: Client, fake: FakeInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatbot.inference.pool.LONGEST_WAIT", 0.2)
    pool = Pool(client, [make_endpoint(fake, id="a", limit=1)])
    async with pool.chat(["a"], REQUEST):
        with pytest.raises(ModelBusy) as refused:
            await hear(pool, "a")
    assert refused.value.retry_after


async def test_a_draining_endpoint_gets_nothing_new(client: Client, fake: FakeInference) -> None:
    pool = Pool(client, [make_endpoint(fake, id="a", draining=True)])
    story = Story()
    with pytest.raises(ModelUnavailable):
        await hear(pool, "a", story=story)
    assert [considered.verdict for considered in story.considered] == ["draining"]


async def test_what_is_known_of_a_server_outlives_a_change_of_its_endpoint(client: Client, fake: FakeInference) -> None:
    pool = Pool(client, [make_endpoint(fake, id="a", limit=8)])
    await hear(pool, "a")
    pool.replace([make_endpoint(fake, id="a", limit=6)])
    assert pool.states()[0].first_token_p50 is not None
    assert pool.states()[0].limit == 6
    pool.divide(3)
    assert pool.states()[0].limit == 2
    pool.replace([make_endpoint(fake, id="a", base_url="http://127.0.0.2")])
    assert pool.states()[0].first_token_p50 is None


async def test_the_story_tells_who_was_considered_and_tried(client: Client, fake: FakeInference) -> None:
    pool = Pool(
        client,
        [make_endpoint(fake, id="a", name="A"), make_endpoint(fake, id="b", name="B", tier=1)],
    )
    fake.script(Reply(status=500))
    story = Story()
    await hear(pool, "a", "b", "gone", story=story)
    assert [(one.endpoint, one.verdict) for one in story.considered] == [
        ("a", "chosen"), ("b", "higher tier"), ("gone", "unknown"),
        ("a", "already failed"), ("b", "chosen"), ("gone", "unknown"),
    ]  # fmt: skip
    first, second = story.attempts
    assert (first.endpoint, first.error, first.first_token_ms) == ("a", "model_failed", None)
    assert (second.endpoint, second.name, second.address, second.error) == ("b", "B", "127.0.0.1", "")
    assert second.began_ms <= (second.first_token_ms or 0)
    assert 15_000 < (story.deadline_left_ms or 0) <= 20_000


async def test_where_the_retries_are_used_up_the_first_error_counts(client: Client, fake: FakeInference) -> None:
    pool = Pool(client, [make_endpoint(fake, id="a", model="a"), make_endpoint(fake, id="b", model="b", tier=1)])
    while pool._desk.retries.take(pool._desk.clock()):
        pass
    fake.script(Reply(status=429, model="a", always=True))
    with pytest.raises(ModelBusy):
        await hear(pool, "a", "b")
    assert [request.payload["model"] for request in fake.requests] == ["a"]


async def test_embedding_fails_over_to_another_server_of_the_same_endpoint(named: Client, fake: FakeInference) -> None:
    names = Names("127.0.0.2", "127.0.0.1")
    url = f"http://{NAME}:{fake.port}"
    pool = Pool(named, [make_endpoint(fake, id="e", kind="embedding", base_url=url)], resolve=names)
    for _ in range(6):
        asker = Asker("acme", rank=Rank.INGESTION)
        assert len(await pool.embed("e", ["text"], input_type="passage", asker=asker)) == 1
    assert pool.states()[0].in_flight == pool.states()[1].in_flight == 0


async def test_a_servers_own_figures_are_read(client: Client) -> None:
    async with FakeInference(dialect=VLLM("m")) as fake:
        fake.told_load = Load(running=2, waiting=3, cache=0.5)
        pool = Pool(client, [make_endpoint(fake, id="a", model="m", protocol="vllm")])
        await hear(pool, "a")
        server = pool._desk.fleet.sites["a"].servers["127.0.0.1"]
        await until(lambda: server.load is not None)
        assert server.load == ServerLoad(2.0, 3.0, 0.5)


async def test_a_server_without_figures_is_not_asked_again_soon(client: Client) -> None:
    async with FakeInference() as fake:
        pool = Pool(client, [make_endpoint(fake, id="a", protocol="vllm")])
        await hear(pool, "a")
        server = pool._desk.fleet.sites["a"].servers["127.0.0.1"]
        await until(lambda: server.load_due > pool._desk.clock() + attending.LOAD_EVERY + 1)
        assert server.load is None


def test_state_survives_loops_and_keeps_none_alive(recwarn: pytest.WarningsRecorder) -> None:
    pool = Pool(Client(allowed=["127.0.0.1"]))

    async def one_question() -> None:
        async with FakeInference() as fake:
            pool.replace([make_endpoint(fake, id="a", base_url="http://127.0.0.1:9")])
            with pytest.raises(ModelUnavailable):
                await hear(pool, "a")

    for _ in range(5):
        asyncio.run(one_question())
    gc.collect()
    assert pool.states()[0].state == "open"
    assert not recwarn.list
