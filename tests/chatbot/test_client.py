"""The client: answers stream whole and unmixed, Stop reaches the server, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing
from pathlib import Path

import pytest

from chatbot.errors import ModelError, ModelFailed, ModelTimeout
from chatbot.events import Usage
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Deadlines, Endpoint
from chatbot.inference.stream import CHARACTERS_PER_TOKEN
from tests.chatbot.listening import ask, listen
from tests.fakes.inference import FakeInference, Reply, make_endpoint

ENOUGH_WORDS = [f"word{n} " for n in range(50)]


async def test_an_answer_streams_with_finish_reason_and_usage(fake: FakeInference, client: Client) -> None:
    fake.script(Reply(tokens=["One", " two."], delay=0.02))
    text, deltas, failure = await listen(client, make_endpoint(fake, model="smol", api_key="sesame"), ask())
    assert (text, failure) == ("One two.", None)
    assert [delta.text for delta in deltas[:2]] == ["One", " two."]
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    assert [delta.usage for delta in deltas if delta.usage] == [Usage(3, 2)]
    (request,) = fake.requests
    assert request.headers["Authorization"] == "Bearer sesame"
    assert request.payload["model"] == "smol"


async def test_a_base_url_may_end_in_v1(fake: FakeInference, client: Client) -> None:
    for base_url in (fake.base_url + "/", fake.base_url + "/v1", fake.base_url + "/v1/"):
        text, _, _ = await listen(client, make_endpoint(fake, base_url=base_url), ask("Hello?"))
        assert text == "You asked: Hello? [1]"


async def test_endless_generation_stops_at_the_cap_and_at_the_server(fake: FakeInference, client: Client) -> None:
    fake.script(Reply(tokens=ENOUGH_WORDS, endless=True))
    text, deltas, failure = await listen(client, make_endpoint(fake), ask(max_tokens=10))
    assert len(text) == 10 * CHARACTERS_PER_TOKEN
    assert (deltas[-1].finish_reason, failure) == ("length", None)
    await fake.wait_disconnected()


async def test_no_answer_outlasts_the_total_deadline(fake: FakeInference, client: Client) -> None:
    fake.script(Reply(tokens=["word "], endless=True, delay=0.01))
    deadlines = Deadlines(total=1.5)
    text, _, failure = await listen(client, make_endpoint(fake, deadlines=deadlines), ask(max_tokens=10_000))
    assert text.startswith("word word ")
    assert type(failure) is ModelTimeout
    await fake.wait_disconnected()


async def test_a_flood_does_not_outrun_the_total_deadline(fake: FakeInference, client: Client) -> None:
    fake.script(Reply(tokens=["word "], endless=True))
    stream = client.chat(make_endpoint(fake, deadlines=Deadlines(total=0.5)), ask(max_tokens=1_000_000_000))
    with pytest.raises(ModelTimeout):  # noqa: PT012 - the pause is what makes it a flood
        async for _ in stream:
            await asyncio.sleep(0.005)  # something has always arrived when the reader comes back


async def test_a_reader_that_dawdles_does_not_count_against_the_server(fake: FakeInference, client: Client) -> None:
    fake.script(Reply(tokens=["a", "b", "c"], delay=0.01))
    deadlines = Deadlines(between_tokens=0.3)
    text = ""
    async for delta in client.chat(make_endpoint(fake, deadlines=deadlines), ask()):
        text += delta.text
        await asyncio.sleep(deadlines.between_tokens * 1.2)
    assert text == "abc"


async def test_closing_the_stream_reaches_the_server(fake: FakeInference, client: Client) -> None:
    fake.script(Reply(tokens=["a ", "b "], endless=True, delay=0.01))
    async with aclosing(client.chat(make_endpoint(fake), ask())) as deltas:
        await anext(deltas)
    await fake.wait_disconnected()


@pytest.mark.parametrize("reply", [Reply(first_delay=60), Reply(tokens=["a", "b"], hang_after=1)])
async def test_cancelling_the_reader_reaches_the_server(fake: FakeInference, client: Client, reply: Reply) -> None:
    fake.script(reply)
    task = asyncio.create_task(listen(client, make_endpoint(fake), ask()))
    await fake.wait_received()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await fake.wait_disconnected()


async def test_twenty_streams_at_once_do_not_mix(fake: FakeInference, client: Client) -> None:
    fake.script(*(Reply(tokens=[f"{n}-{i} " for i in range(30)], delay=0.002, when=f"#{n}#") for n in range(20)))
    endpoint = make_endpoint(fake)
    heard = await asyncio.gather(*(listen(client, endpoint, ask(f"#{n}#")) for n in range(20)))
    assert [text for text, _, _ in heard] == ["".join(f"{n}-{i} " for i in range(30)) for n in range(20)]


async def test_a_finished_stream_leaves_its_connection_to_the_next(fake: FakeInference, client: Client) -> None:
    for _ in range(5):
        await listen(client, make_endpoint(fake), ask())
        await client.embed(make_endpoint(fake, kind="embedding"), ["a"], input_type="query")
    assert len({request.client_port for request in fake.requests}) == 1


async def test_nothing_is_left_of_streams_however_they_end(fake: FakeInference) -> None:
    def held() -> tuple[int, int]:
        return len(asyncio.all_tasks()), len(list(Path("/proc/self/fd").iterdir()))

    async def leave(client: Client, n: int) -> None:
        reply = [Reply(), Reply(cut_after=1), Reply(tokens=["a"], endless=True, delay=0.01), Reply(status=500)][n % 4]
        fake.script(reply)
        async with aclosing(client.chat(make_endpoint(fake), ask())) as deltas:
            try:
                await anext(deltas)
            except ModelError:
                return

    client = Client(allowed=["127.0.0.1"])
    before = held()
    await asyncio.gather(*(leave(client, n) for n in range(20)))
    await client.close()
    async with asyncio.timeout(30):
        while held() != before:  # noqa: ASYNC110 - the kernel has no event for a closed descriptor
            await asyncio.sleep(0.01)


async def test_no_redirect_is_followed_and_no_cookie_kept(fake: FakeInference, client: Client) -> None:
    fake.script(Reply(status=307, headers={"Location": "/v1/chat/completions", "Set-Cookie": "a=b"}))
    _, _, failure = await listen(client, make_endpoint(fake), ask())
    assert type(failure) is ModelFailed
    await listen(client, make_endpoint(fake), ask())
    assert len(fake.requests) == 2
    assert "Cookie" not in fake.requests[1].headers


def test_a_client_serves_one_short_loop_after_another() -> None:
    client = Client(allowed=["127.0.0.1"])

    async def embed() -> int:
        async with FakeInference() as fake:
            return len(await client.embed(make_endpoint(fake, kind="embedding"), ["a"], input_type="passage"))

    # Unclosed sessions or transports would warn when they are collected, and warnings are errors here.
    assert [asyncio.run(embed()) for _ in range(3)] == [1, 1, 1]
    gc.collect()


async def test_a_long_prompt_is_sent_whole(fake: FakeInference, client: Client) -> None:
    _, _, failure = await listen(client, make_endpoint(fake), ask("word " * 400_000))
    assert failure is None
    assert len(fake.requests[0].payload["messages"][0]["content"]) == 2_000_000


def test_a_key_is_never_shown() -> None:
    endpoint = Endpoint("a", "chat", "A", "http://a", "m", context_length=1, api_key="sesame")
    assert "sesame" not in repr(endpoint)


async def test_each_text_gets_its_vector(fake: FakeInference, client: Client) -> None:
    endpoint = make_endpoint(fake, kind="embedding", dimension=384, model="e5")
    cats, dogs, again = await client.embed(endpoint, ["cats purr", "dogs bark", "cats purr"], input_type="passage")
    assert len(cats) == 384
    assert cats == again != dogs
    assert fake.requests[0].payload["input_type"] == "passage"
    assert fake.requests[0].payload["model"] == "e5"
    assert await client.embed(endpoint, [], input_type="passage") == []
    assert len(fake.requests) == 1
