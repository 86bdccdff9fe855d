"""The clients that people have, as they install them, against a running product: /v1 is what they take it for."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.fakes.inference import Reply, embedding
from tests.journeys.conftest import PASSAGE, World, web_process

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

QUESTION = "What must be done before the first brew?"
TOKENS = ["Prime", " the", " pump", " [1]", "."]
ANSWER = "Prime the pump [1]."
ASK: Any = [{"role": "user", "content": QUESTION}]
# Seconds to start each, and what differs between the servers the openai package has seen.
ONCE = pytest.mark.parametrize("v1", ["daphne"], indirect=True, scope="module")
PATIENCE = 60  # seconds for what takes parts of one on a machine that has nothing else to do


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def v1(request: pytest.FixtureRequest, world: World) -> Iterator[str]:
    with web_process(request.param) as base_url:
        yield f"{base_url}/v1"


@pytest.fixture(autouse=True)
def scripted(world: World) -> None:
    world.model.script(Reply(tokens=TOKENS, always=True, delay=0.01))


@pytest.fixture
def client(v1: str, world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=v1, api_key=world.key, max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(v1: str, world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=v1, api_key=world.key, max_retries=0) as client:
        yield client


def turn_of(v1: str, world: World, turn_id: str) -> Any:
    """A turn as the rest of the API tells it, when it has ended."""
    url = f"{v1.removesuffix('/v1')}/api/v1/turns/{turn_id.removeprefix('chatcmpl-')}"
    return eventually(
        lambda: httpx.get(url, headers={"Authorization": f"Bearer {world.key}"}).raise_for_status().json(),
        lambda turn: turn["closed_at"],
    )


def eventually(look: Callable[[], Any], holds: Callable[[Any], Any]) -> Any:
    """What is seen as soon as it is so."""
    deadline = time.monotonic() + PATIENCE
    while not holds(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
    return seen


def used(v1: str, world: World) -> list[Any]:
    """The ledger's latest rows, newest first."""
    url = f"{v1.removesuffix('/v1')}/api/v1/usage/records"
    rows: list[Any] = (
        httpx.get(url, headers={"Authorization": f"Bearer {world.key}"}).raise_for_status().json()["results"]
    )
    return rows


def reserved(v1: str, world: World) -> list[Any]:
    return [row for row in used(v1, world) if row["state"] == "reserved"]


def told(v1: str, world: World, turn_id: str) -> list[str]:
    """The types of a turn's events until now."""
    url = f"{v1.removesuffix('/v1')}/api/v1/turns/{turn_id}?after=0-0"
    seen = httpx.get(url, headers={"Authorization": f"Bearer {world.key}"}).raise_for_status().json()
    return [event["type"] for event in seen["events"]]


# --- openai -----------------------------------------------------------------------------------------------------------


def test_openai_completes(client: openai.OpenAI, v1: str, world: World) -> None:
    answer = client.chat.completions.create(model="guide", messages=ASK, user="zoe", seed=7)
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5
    extension = (answer.choices[0].message.model_extra or {})["parley"]
    assert [citation["text"] for citation in extension["citations"]] == [PASSAGE]
    turn = turn_of(v1, world, answer.id)
    assert (turn["text"], turn["conversation"]) == (ANSWER, None)
    assert answer._request_id


def test_openai_streams(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="guide", messages=ASK, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *chunks, last, usage = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert chunks[0].choices[0].delta.role == "assistant"
    assert last.choices[0].finish_reason == "stop"
    assert [citation["n"] for citation in (last.model_extra or {})["parley"]["citations"]] == [1]
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 5


def test_openais_own_accumulator_takes_the_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="guide", messages=ASK) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == ANSWER


async def test_openai_streams_async(async_client: openai.AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(model="guide", messages=ASK, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == ANSWER


def test_openai_raises_what_it_names(client: openai.OpenAI, v1: str, world: World) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as unknown:
        create(model="gpt-4o", messages=ASK)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as many:
        create(model="guide", messages=ASK, n=2)
    assert (many.value.code, many.value.param) == ("invalid_request", "n")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").chat.completions.create(model="guide", messages=ASK)
    with pytest.raises(openai.NotFoundError, match="/v1/chat/completions"):
        client.responses.create(model="guide", input="x")
    once: Any = {"Idempotency-Key": f"conflict {v1}"}
    create(model="guide", messages=ASK, extra_headers=once)
    with pytest.raises(openai.UnprocessableEntityError):
        create(model="guide", messages=[*ASK, *ASK], extra_headers=once)
    world.model.script(Reply(status=429, body="busy", headers={"Retry-After": "3"}, always=True))
    with pytest.raises(openai.InternalServerError) as busy:
        create(model="guide", messages=ASK)
    assert (busy.value.status_code, busy.value.code) == (503, "model_busy")
    assert busy.value.response.headers["retry-after-ms"] == "3000"


def test_openai_raises_in_mid_stream(client: openai.OpenAI, world: World) -> None:
    world.model.script(Reply(tokens=TOKENS, delay=0.05, cut_after=2, always=True))
    heard: list[str | None] = []
    stream = client.chat.completions.create(model="guide", messages=ASK, stream=True)
    with pytest.raises(openai.APIError) as failure:
        heard.extend(chunk.choices[0].delta.content for chunk in stream)
    assert "".join(filter(None, heard)) == "Prime the"
    assert failure.value.code == "model_failed"
    assert not isinstance(failure.value, openai.APIStatusError)


def test_openai_tries_again_by_itself(client: openai.OpenAI, v1: str, world: World) -> None:
    world.model.script(Reply(status=429, body="busy", headers={"Retry-After": "0"}), Reply(tokens=TOKENS))
    before = len(used(v1, world))
    answer = client.with_options(max_retries=1).chat.completions.create(model="guide", messages=ASK)
    assert answer.choices[0].message.content == ANSWER
    assert [row["bill"] for row in used(v1, world)[: len(used(v1, world)) - before]] == ["once", "none"]


def test_openai_repeats_for_one_bill(client: openai.OpenAI, v1: str) -> None:
    again: Any = {"extra_headers": {"Idempotency-Key": f"repeat {v1}"}}
    answers = [client.chat.completions.create(model="guide", messages=ASK, **again) for _ in range(2)]
    assert answers[0].id == answers[1].id
    assert answers[0].choices == answers[1].choices


def test_openai_reads_our_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="guide", messages=ASK, extra_headers={"X-Request-Id": "of-the-client-1"}
    )
    assert raw.headers["x-request-id"] == "of-the-client-1"
    assert raw.request_id == "of-the-client-1"
    assert int(raw.headers["openai-processing-ms"]) > 0
    assert raw.parse().choices[0].message.content == ANSWER


def test_openai_lists_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["guide"]
    assert client.models.retrieve("guide").owned_by == "acme"


def test_openai_embeds(client: openai.OpenAI) -> None:
    """The client asks for base64 unless told."""
    vectors = client.embeddings.create(model="fake", input=["a pump", "a mill"])
    assert [row.embedding for row in vectors.data] == [
        pytest.approx(embedding(text), abs=1e-6) for text in ("a pump", "a mill")
    ]
    plain = client.embeddings.create(model="fake", input="a pump", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(embedding("a pump"))
    assert plain.usage.total_tokens > 0
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model="fake", input=[[1, 2, 3]])


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_stops_the_answer(async_client: openai.AsyncOpenAI, v1: str, world: World, stream: bool) -> None:
    world.model.script(Reply(tokens=["on ", "and "], endless=True, always=True, delay=0.05))
    asking = asyncio.create_task(async_client.chat.completions.create(model="guide", messages=ASK, stream=stream))
    if stream:
        answer: Any = await asking
        await anext(answer)
        await anext(answer)
        await answer.close()
    else:
        turn = (await asyncio.to_thread(eventually, lambda: reserved(v1, world), len))[0]["turn"]
        await asyncio.to_thread(eventually, lambda: told(v1, world, turn), lambda kinds: "token" in kinds)
        asking.cancel()
    asked = "/v1/chat/completions"
    await asyncio.to_thread(eventually, lambda: world.model.requests(asked)[-1], lambda last: last["disconnected_at"])
    latest = await asyncio.to_thread(
        eventually, lambda: used(v1, world)[0], lambda row: row["state"] == "settled" and row["bill"] == "delivered"
    )
    assert latest["completion_tokens"] > 0
    assert (await asyncio.to_thread(turn_of, v1, world, latest["turn"]))["state"] == "stopped"


# --- LangChain --------------------------------------------------------------------------------------------------------


async def test_langchain_talks_and_embeds(v1: str, world: World) -> None:
    with httpx.Client() as client:
        async with httpx.AsyncClient() as async_client:
            door: Any = {
                "base_url": v1, "api_key": world.key, "http_client": client, "http_async_client": async_client,
            }  # fmt: skip
            await _talks(ChatOpenAI(model="guide", stream_usage=True, **door))
            await _embeds(OpenAIEmbeddings(model="fake", check_embedding_ctx_length=False, **door))


async def _talks(model: ChatOpenAI) -> None:
    talk = [SystemMessage("Be brief."), HumanMessage(QUESTION)]
    answer = await asyncio.to_thread(model.invoke, talk)
    assert answer.content == ANSWER
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 5
    parts = await asyncio.to_thread(lambda: list(model.stream(talk)))
    streamed = [part async for part in model.astream(talk)]
    for each in (parts, streamed):
        assert "".join(str(part.content) for part in each) == ANSWER
        assert sum((part.usage_metadata or {}).get("output_tokens", 0) for part in each) == 5


async def _embeds(vectors: OpenAIEmbeddings) -> None:
    assert await vectors.aembed_query("a pump") == pytest.approx(embedding("a pump"), abs=1e-6)
    assert len(await asyncio.to_thread(vectors.embed_documents, ["a pump", "a mill"])) == 2


# --- llm and LiteLLM, each in a process of its own --------------------------------------------------------------------


@ONCE
def test_llm_on_the_command_line(v1: str, world: World, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: parley\n  model_name: guide\n  api_base: {v1}\n  api_key_name: parley\n"
    )
    (tmp_path / "keys.json").write_text(json.dumps({"parley": world.key}))
    llm = [
        str(Path(sys.executable).with_name("llm")),
        "prompt",
        "--model",
        "parley",
        "--system",
        "Be brief.",
        "--usage",
    ]
    for how in ([], ["--no-stream"]):
        ran = subprocess.run(
            [*llm, *how, QUESTION],
            # The plugins that happen to be installed here are none of its business.
            env={**os.environ, "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        assert ran.stdout.strip() == ANSWER
        assert "5 output" in ran.stderr


LITELLM = """
import json, sys, litellm
how = {"model": "openai/guide", "api_base": sys.argv[1], "api_key": sys.argv[2], "messages": json.loads(sys.argv[3])}
whole = litellm.completion(**how, drop_params=True)
parts = list(litellm.completion(**how, stream=True, stream_options={"include_usage": True}))
try:
    litellm.completion(**{**how, "model": "openai/nobody"})
    raised = ""
except litellm.NotFoundError as error:
    raised = error.message
vectors = litellm.embedding("openai/fake", input=["a pump"], api_base=sys.argv[1], api_key=sys.argv[2])
print(json.dumps({
    "whole": whole.choices[0].message.content,
    "usage": whole.usage.completion_tokens,
    "parts": "".join(part.choices[0].delta.content or "" for part in parts if part.choices),
    "streamed_usage": [part.usage.completion_tokens for part in parts if getattr(part, "usage", None)],
    "raised": raised,
    "numbers": len(vectors.data[0]["embedding"]),
}))
"""


@ONCE
def test_litellm_as_a_client(v1: str, world: World) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LITELLM, v1, world.key, json.dumps(ASK)],
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout.strip().splitlines()[-1])
    assert told["whole"] == told["parts"] == ANSWER
    assert told["usage"] == 5
    assert told["streamed_usage"] == [5]
    assert "does not exist" in told["raised"]
    assert told["numbers"] == 384
