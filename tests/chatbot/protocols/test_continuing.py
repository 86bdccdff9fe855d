"""Going on from a prefix: where the server can, the joined text is what it would have been in one go."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chatbot.errors import ModelFailed
from chatbot.events import Usage
from chatbot.inference.client import Client
from chatbot.inference.protocols import protocol_of
from chatbot.inference.wire import ChatRequest
from tests.chatbot.listening import ask, listen
from tests.chatbot.protocols.conftest import CHAT, EMBEDDING, Start
from tests.fakes.dialects import LlamaCpp
from tests.fakes.inference import FakeInference, Reply, make_endpoint

ROOT = Path(__file__).parents[3]
CONTINUING = ["vllm", "tgi", "tgi-generate", "llamacpp"]
ANSWER = ["Prime", " the", " pump", ":\n\n", "1.", " Öffne", " the", " valve", ".\n", "2.", "  Wait", " [1]", "."]
WHOLE = "".join(ANSWER)


def go_on(prefix: str, **fields: Any) -> ChatRequest:
    return replace(ask(**fields), prefix=prefix)


@pytest.mark.parametrize("name", sorted({*CHAT, *EMBEDDING}))
async def test_a_protocol_says_whether_it_continues(start: Start, name: str) -> None:
    _, endpoint = await start(name, "chat" if name in CHAT else "embedding")
    assert protocol_of(endpoint).continues is (name in CONTINUING)


@pytest.mark.parametrize("name", CONTINUING)
async def test_wherever_an_answer_was_cut_the_whole_comes_out(start: Start, client: Client, name: str) -> None:
    fake, endpoint = await start(name)
    fake.script(Reply(tokens=ANSWER, always=True))
    for place in range(len("Prime t"), len(WHOLE) + 1):
        text, deltas, failure = await listen(client, endpoint, go_on(WHOLE[:place]))
        assert (WHOLE[:place] + text, failure) == (WHOLE, None)
        assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
        assert fake.requests[-1].prefix == WHOLE[:place].rstrip()


@pytest.mark.parametrize("name", CONTINUING)
async def test_blanks_before_an_answer_do_not_make_it_begin_again(start: Start, client: Client, name: str) -> None:
    fake, endpoint = await start(name)
    fake.script(Reply(tokens=[" One", " two", " three"], always=True))
    assert (await listen(client, endpoint, go_on(" One two")))[0] == " three"


@pytest.mark.parametrize("name", CONTINUING)
async def test_what_is_not_scripted_goes_on_too(start: Start, client: Client, name: str) -> None:
    _, endpoint = await start(name)
    assert (await listen(client, endpoint, go_on("You asked: What")))[0] == " is Parley? [1]"


@pytest.mark.parametrize("name", CONTINUING)
async def test_an_endless_answer_goes_on_where_it_was(start: Start, client: Client, name: str) -> None:
    fake, endpoint = await start(name)
    fake.script(Reply(tokens=["1 one ", "2 two ", "3 three "], endless=True))
    text, _, _ = await listen(client, endpoint, go_on("1 one 2 two 3 three 1 one 2", max_tokens=2))
    assert text == " two 3 three 1 one 2 two 3 three"[: 2 * 16]


@pytest.mark.parametrize("name", CONTINUING)
async def test_the_limit_is_that_of_what_follows(start: Start, client: Client, name: str) -> None:
    fake, endpoint = await start(name)
    fake.script(Reply(tokens=ANSWER, always=True))
    text, deltas, _ = await listen(client, endpoint, go_on("Prime the pump:", max_tokens=3))
    assert text == "\n\n1. Öffne"
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["length"]


async def test_a_prefix_counts_as_a_part_of_the_prompt(start: Start, client: Client) -> None:
    _, endpoint = await start("vllm")
    _, alone, _ = await listen(client, endpoint, ask())
    _, begun, _ = await listen(client, endpoint, go_on("You asked: What is"))
    assert [delta.usage for delta in alone if delta.usage] == [Usage(3, 6)]
    assert [delta.usage for delta in begun if delta.usage] == [Usage(3 + 4, 2)]


@pytest.mark.parametrize("name", [name for name in CHAT if name != "tgi-generate"])
async def test_only_blanks_are_no_beginning(start: Start, client: Client, name: str) -> None:
    fake, endpoint = await start(name)
    fake.script(Reply(tokens=["\n\n", "One"], always=True))
    text, _, failure = await listen(client, endpoint, go_on("\n"))
    assert (text, failure) == ("\nOne", None)
    assert [message["role"] for message in fake.requests[-1].payload["messages"]] == ["user"]
    assert "continue_final_message" not in fake.requests[-1].payload


async def test_tgi_is_not_asked_to_find_one_word_in_its_prompt(start: Start, client: Client) -> None:
    fake, endpoint = await start("tgi")
    for word in ("As", " As\n"):
        text, _, failure = await listen(client, endpoint, go_on(word))
        assert (text, type(failure)) == ("", ModelFailed)
    assert not fake.requests
    fake.script(Reply(tokens=["答案", "是"], always=True))
    assert (await listen(client, endpoint, go_on("答案")))[0] == "是"  # no template's word


class ThinkingLlamaCpp(LlamaCpp):
    thinks = True


async def test_llamacpp_refuses_while_its_model_thinks(client: Client) -> None:
    async with FakeInference(dialect=ThinkingLlamaCpp()) as fake:
        endpoint = make_endpoint(fake, protocol="llamacpp")
        text, _, failure = await listen(client, endpoint, go_on("You asked: What"))
        assert (text, type(failure)) == ("", ModelFailed)
        assert (await listen(client, endpoint, ask()))[0] == "You asked: What is Parley? [1]"


# The scripted servers themselves, asked as no protocol of ours does.


async def told(fake: FakeInference, prefix: str, **fields: Any) -> str:
    """An answer in one piece to a question that a message of the assistant's follows."""
    messages = [{"role": "user", "content": "Well?"}, {"role": "assistant", "content": prefix}]
    payload = {"model": "fake", "messages": messages, **fields}
    address = fake.base_url + fake.dialect.chat_path
    async with aiohttp.ClientSession() as session, session.post(address, json=payload) as response:
        body = await response.json()
    return str(body["choices"][0]["message"]["content"]) if response.status == 200 else body["error"]["message"]


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("openai", {}, "You asked: Well? [1]"),
        ("vllm", {}, "You asked: Well? [1]"),
        ("vllm", {"continue_final_message": True, "add_generation_prompt": False}, " Well? [1]"),
        (
            "vllm",
            {"continue_final_message": True, "add_generation_prompt": True},
            "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
        ),
        ("tgi", {}, " Well? [1]"),
        ("llamacpp", {}, "You asked: Well? [1]"),
    ],
)
async def test_answers_in_one_piece(start: Start, name: str, fields: dict[str, Any], expected: str) -> None:
    fake, _ = await start(name)
    fake.api_key = ""
    assert await told(fake, "You asked:", **fields) == expected


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[str]:
    """The scripted server as a process of its own; its base URL."""
    command = [sys.executable, "-m", "tests.fakes.serving", "--port", "0", *arguments]
    started = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert started.stdout
    try:
        yield (await started.stdout.readline()).decode().strip()
    finally:
        started.kill()
        await started.communicate()


async def test_a_process_plays_the_server_that_it_is_told_to(client: Client) -> None:
    async with process("--dialect", "vllm") as base_url:
        endpoint = make_endpoint(None, base_url=base_url, protocol="vllm")
        assert (await listen(client, endpoint, go_on("You asked: What")))[0] == " is Parley? [1]"
        async with aiohttp.ClientSession() as session, session.get(f"{base_url}/requests") as response:
            assert [request["prefix"] for request in await response.json()] == ["You asked: What"]
