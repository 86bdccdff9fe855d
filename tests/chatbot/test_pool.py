"""The pool: another endpoint steps in before the first token, once, and never after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from chatbot.errors import ModelBusy, ModelFailed, ModelTimeout, ModelUnavailable, ParleyError, PromptTooLong
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Deadlines, Endpoint, ProtocolName
from chatbot.inference.pool import Pool
from chatbot.inference.wire import ChatRequest, Message
from tests.fakes.dialects import VLLM
from tests.fakes.inference import FakeInference, Reply, make_endpoint

SHORT = Deadlines(first_token=0.6, between_tokens=0.6)
REQUEST = ChatRequest((Message("user", "What is Parley?"),), max_tokens=64)
OVERLOADED = {"error": "Model is overloaded", "error_type": "overloaded"}


@pytest.fixture
async def pool(fake: FakeInference, client: Client) -> Pool:
    """Endpoints a, b and c, each on a tier of its own: one server, told apart by the model they ask for."""
    return Pool(client, abc(fake))


def abc(fake: FakeInference, *, impatient: str = "") -> list[Endpoint]:
    """impatient: which of them is not waited for."""
    return [
        make_endpoint(fake, id=name, model=name, tier=tier, deadlines=SHORT if name == impatient else Deadlines())
        for tier, name in enumerate("abc")
    ]


async def hear(pool: Pool, *ids: str) -> tuple[str, str]:
    """Who answered, and what."""
    async with pool.chat(ids, REQUEST) as answer:
        text = "".join([delta.text async for delta in answer])
        return answer.endpoint.id, text


def asked(fake: FakeInference) -> list[str]:
    return [request.payload["model"] for request in fake.requests]


async def test_an_endpoint_of_the_lowest_tier_answers(pool: Pool, fake: FakeInference) -> None:
    assert await hear(pool, "c", "b") == ("b", "You asked: What is Parley? [1]")
    assert asked(fake) == ["b"]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500),
        Reply(status=429),
        Reply(tokens=[], error_event=OVERLOADED),
        Reply(hang_after=0),
        Reply(cut_after=0),
        Reply(tokens=[], no_finish=True, no_usage=True),
        Reply(tokens=[], garbage="data: {torn\n\n"),
    ],
)
async def test_another_steps_in_before_the_first_token(pool: Pool, fake: FakeInference, reply: Reply) -> None:
    pool.replace(abc(fake, impatient="a" if reply.hang_after == 0 else ""))
    fake.script(reply)
    assert await hear(pool, "a", "b") == ("b", "You asked: What is Parley? [1]")
    assert asked(fake) == ["a", "b"]


async def test_an_endpoint_that_refuses_connections_is_replaced(fake: FakeInference, pool: Pool) -> None:
    pool.replace([make_endpoint(fake, id="dead", base_url="http://127.0.0.1:9"), make_endpoint(fake, id="b", tier=1)])
    assert (await hear(pool, "dead", "b"))[0] == "b"


@pytest.mark.parametrize(
    ("second", "expected"),
    [(Reply(status=503), ModelBusy), (Reply(status=500), ModelFailed), (Reply(hang_after=0), ModelTimeout)],
)
async def test_there_is_one_retry_and_its_error_counts(
    pool: Pool, fake: FakeInference, second: Reply, expected: type[ParleyError]
) -> None:
    pool.replace(abc(fake, impatient="b" if expected is ModelTimeout else ""))
    fake.script(Reply(status=500), second)
    with pytest.raises(expected):
        await hear(pool, "a", "b", "c")
    assert asked(fake) == ["a", "b"]


async def test_the_same_endpoint_is_not_asked_twice(pool: Pool, fake: FakeInference) -> None:
    fake.script(Reply(status=500))
    with pytest.raises(ModelFailed):
        await hear(pool, "a", "a")
    assert asked(fake) == ["a"]


async def test_nobody_steps_in_once_a_token_was_shown(pool: Pool, fake: FakeInference) -> None:
    fake.script(Reply(tokens=["so ", "far"], cut_after=1))
    heard = ""
    with pytest.raises(ModelFailed):  # noqa: PT012 - the text before the error is half of what is tested
        async with pool.chat(["a", "b"], REQUEST) as answer:
            async for delta in answer:
                heard += delta.text
    assert heard == "so "
    assert asked(fake) == ["a"]


async def test_a_prompt_that_is_too_long_is_too_long_everywhere(pool: Pool, fake: FakeInference) -> None:
    fake.script(Reply(status=400, body='{"error":{"type":"exceed_context_size_error"}}'))
    with pytest.raises(PromptTooLong):
        await hear(pool, "a", "b")
    assert asked(fake) == ["a"]


async def test_all_attempts_share_one_deadline_to_the_first_token(fake: FakeInference, client: Client) -> None:
    patient = Deadlines(first_token=3600.0)
    endpoints = [make_endpoint(fake, id="a", deadlines=SHORT), make_endpoint(fake, id="b", tier=1, deadlines=patient)]
    pool = Pool(client, endpoints, retry_seconds=1.0)
    fake.script(Reply(hang_after=0, always=True))
    with pytest.raises(ModelTimeout):
        await hear(pool, "a", "b")
    questions = [request for request in fake.requests if request.payload["max_tokens"] == REQUEST.max_tokens]
    assert len(questions) == 2  # what else came looks after a server that is stuck


async def test_after_the_first_token_that_deadline_is_over(fake: FakeInference, client: Client) -> None:
    pool = Pool(client, [make_endpoint(fake, id="a", deadlines=Deadlines(first_token=1.0))], retry_seconds=0.1)
    fake.script(Reply(tokens=["a", "b", "c"], delay=0.7))
    assert await hear(pool, "a") == ("a", "abc")


def go_on(prefix: str) -> ChatRequest:
    return replace(REQUEST, prefix=prefix)


@pytest.fixture
async def mixed(client: Client) -> AsyncIterator[tuple[Pool, FakeInference]]:
    """Endpoints at one server that continues, of which only v and w are spoken to so."""
    async with FakeInference(dialect=VLLM("o", "v", "w")) as fake:
        protocols: dict[str, ProtocolName] = {"o": "openai", "v": "vllm", "w": "vllm"}
        yield (
            Pool(
                client,
                [
                    make_endpoint(fake, id=name, model=name, tier=tier, protocol=how)
                    for tier, (name, how) in enumerate(protocols.items())
                ],
            ),
            fake,
        )


async def test_an_answer_is_continued_by_those_that_can(mixed: tuple[Pool, FakeInference]) -> None:
    pool, fake = mixed
    async with pool.chat(["o", "v"], go_on("You asked: What")) as answer:
        assert answer.endpoint.id == "v"
        assert "".join([delta.text async for delta in answer]) == " is Parley? [1]"
    assert asked(fake) == ["v"]


async def test_another_continues_where_one_fails(mixed: tuple[Pool, FakeInference]) -> None:
    pool, fake = mixed
    fake.script(Reply(status=500))
    async with pool.chat(["v", "o", "w"], go_on("You asked: What")) as answer:
        assert "".join([delta.text async for delta in answer]) == " is Parley? [1]"
    assert asked(fake) == ["v", "w"]


async def test_where_none_can_continue_nobody_is_asked(mixed: tuple[Pool, FakeInference]) -> None:
    pool, fake = mixed
    with pytest.raises(ModelFailed):
        async with pool.chat(["o"], go_on("You asked: What")):
            pass
    assert not fake.requests
    async with pool.chat(["o"], go_on("\n")) as answer:  # only blanks: nothing was said yet
        assert answer.endpoint.id == "o"


@pytest.mark.parametrize(
    ("ids", "expected"), [(["o", "v"], True), (["o"], False), (["gone"], False), (["gone", "w"], True), ([], False)]
)
async def test_the_pool_says_whether_one_of_them_continues(
    mixed: tuple[Pool, FakeInference], ids: list[str], expected: bool
) -> None:
    assert mixed[0].continues(ids) is expected


async def test_leaving_the_block_stops_the_model(pool: Pool, fake: FakeInference) -> None:
    fake.script(Reply(tokens=["a "], endless=True, delay=0.01))
    async with pool.chat(["a"], REQUEST) as answer:
        async for delta in answer:
            assert delta.text == "a "
            break
    assert (await fake.wait_disconnected()).payload["model"] == "a"


async def test_cancelling_while_waiting_for_the_first_token_stops_the_model(pool: Pool, fake: FakeInference) -> None:
    fake.script(Reply(first_delay=60))
    task = asyncio.create_task(hear(pool, "a", "b"))
    await fake.wait_received()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await fake.wait_disconnected()
    assert asked(fake) == ["a"]


async def test_endpoints_can_be_replaced_while_a_stream_runs(pool: Pool, fake: FakeInference) -> None:
    fake.script(Reply(tokens=["a", "b"], delay=0.05))
    async with pool.chat(["a"], REQUEST) as answer:
        pool.replace([make_endpoint(fake, id="new")])
        assert "".join([delta.text async for delta in answer]) == "ab"
    with pytest.raises(ModelUnavailable):
        await hear(pool, "a")
    assert (await hear(pool, "a", "new"))[0] == "new"


async def test_an_endpoint_serves_its_kind_only(pool: Pool, fake: FakeInference) -> None:
    pool.replace([make_endpoint(fake, id="e", kind="embedding"), make_endpoint(fake, id="c", kind="chat")])
    with pytest.raises(ModelUnavailable):
        await hear(pool, "e")
    with pytest.raises(ModelUnavailable):
        await pool.embed("c", ["a"], input_type="query")
    assert len(await pool.embed("e", ["a", "b"], input_type="query")) == 2
