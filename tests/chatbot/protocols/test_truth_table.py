"""One conversation through every protocol: the same text, the same end, the same errors."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest

from chatbot.errors import (
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelTimeout,
    ModelUnavailable,
    ParleyError,
    PromptTooLong,
)
from chatbot.events import Usage
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Deadlines
from tests.chatbot.listening import ask, listen
from tests.chatbot.protocols.conftest import CHAT, EMBEDDING, TOKEN, Start
from tests.fakes.inference import Reply, embedding

# From leaving a stream to the server's seeing it. Looks are counted, and no time in which a busy machine did neither.
STOP_LOOKS, LOOK_SECONDS = 20, 0.01
SHORT = Deadlines(first_token=0.5, between_tokens=0.3)
# Where some words come first, they have the time that a busy machine takes for them.
SHORT_AFTER_WORDS = Deadlines(between_tokens=1.0)
# Bytes of two to four, and separators that some libraries take for the end of a line.
UNICODE = ["Grüße ", "世界", " 👋", " a\u2028b\u0085c"]


@dataclass(frozen=True)
class Outcome:
    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    failure: type[ParleyError] | None = None


def whole(text: str, tokens: int, finish_reason: str = "stop") -> Outcome:
    return Outcome(text, finish_reason, Usage(3, tokens))


TABLE = {
    "stop": (Reply(tokens=["One", " two."]), whole("One two.", 2)),
    "length": (Reply(tokens=["a", " b", " c", " d", " e"]), whole("a b c d", 4, "length")),
    "unicode-byte-by-byte": (Reply(tokens=UNICODE, split=1), whole("".join(UNICODE), 4)),
    "noise": (Reply(tokens=["One", " two."], split=7, noise=True), whole("One two.", 2)),
    "error-in-stream": (Reply(tokens=["a", "b"], fault="broken"), Outcome("ab", failure=ModelFailed)),
    "overload": (Reply(fault="overloaded"), Outcome(failure=ModelBusy)),
    "context-too-long": (Reply(fault="too_long"), Outcome(failure=PromptTooLong)),
    "cut": (Reply(tokens=["a", "b", "c"], cut_after=2), Outcome("ab", failure=ModelFailed)),
    "no-finish": (Reply(tokens=["a", "b"], no_finish=True, no_usage=True), Outcome("ab", failure=ModelFailed)),
    "garbage": (Reply(tokens=["a", "b"], garbage="data: {torn\n\n"), Outcome("ab", failure=ModelFailed)),
    "10-mb-line": (Reply(tokens=["a"], garbage="data: " + "x" * 10_000_000), Outcome("a", failure=ModelFailed)),
    "hang": (Reply(tokens=["a", "b", "c"], hang_after=2), Outcome("ab", failure=ModelTimeout)),
    "no-first-token": (Reply(hang_after=0, noise=True), Outcome(failure=ModelTimeout)),
    "late-headers": (Reply(first_delay=60), Outcome(failure=ModelTimeout)),
    "error-500": (Reply(status=500, body="Traceback"), Outcome(failure=ModelFailed)),
    "wrong-key": (Reply(status=401), Outcome(failure=ModelFailed)),
}


@pytest.mark.parametrize("case", TABLE)
@pytest.mark.parametrize("name", CHAT)
async def test_every_protocol_has_the_same_outcome(start: Start, client: Client, name: str, case: str) -> None:
    reply, expected = TABLE[case]
    if name == "hf-dedicated" and case == "overload":
        expected = Outcome(failure=ModelUnavailable)  # a 503 there means that the endpoint is asleep
    short = SHORT_AFTER_WORDS if expected.text else SHORT
    fake, endpoint = await start(name, deadlines=short if expected.failure is ModelTimeout else Deadlines())
    fake.script(reply)
    text, deltas, failure = await listen(client, endpoint, ask(max_tokens=4))
    finished = [delta.finish_reason for delta in deltas if delta.finish_reason]
    counted = [delta.usage for delta in deltas if delta.usage]
    assert len(finished) <= 1
    assert expected == Outcome(
        text,
        finished[0] if finished else None,
        counted[0] if counted and not failure else None,
        type(failure) if failure else None,
    )


@pytest.mark.parametrize(
    "reply",
    [Reply(tokens=["a ", "b "], endless=True, delay=0.01), Reply(tokens=["a ", "b "], hang_after=1)],
    ids=["speaking", "silent"],
)
@pytest.mark.parametrize("name", CHAT)
async def test_stop_reaches_the_server_at_once(start: Start, client: Client, name: str, reply: Reply) -> None:
    fake, endpoint = await start(name)
    fake.script(reply)
    async with aclosing(client.chat(endpoint, ask(max_tokens=10_000))) as deltas:
        await anext(deltas)
    for _ in range(STOP_LOOKS):
        if any(request.disconnected_at for request in fake.requests):
            return
        await asyncio.sleep(LOOK_SECONDS)
    pytest.fail("The server still answers.")


@pytest.mark.parametrize("name", CHAT)
async def test_a_finished_stream_leaves_its_connection_to_the_next(start: Start, client: Client, name: str) -> None:
    fake, endpoint = await start(name)
    for _ in range(3):
        await listen(client, endpoint, ask())
    assert len({request.client_port for request in fake.requests}) == 1


@pytest.mark.parametrize("name", CHAT)
async def test_the_key_of_the_endpoint_and_no_other_is_sent(
    start: Start, client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_whoever_runs_this")
    fake, endpoint = await start(name)
    await listen(client, endpoint, ask())
    assert {request.headers["Authorization"] for request in fake.requests} == {f"Bearer {TOKEN}"}
    if name != "hf":  # which takes no question without a token
        fake.requests.clear()
        await listen(client, replace(endpoint, api_key=""), ask())
        assert not any("Authorization" in request.headers for request in fake.requests)
        assert fake.requests


@pytest.mark.parametrize("name", [name for name in CHAT if name != "hf"])
async def test_what_cannot_be_reached_is_unavailable(start: Start, client: Client, name: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    _, endpoint = await start(name, base_url=address)
    _, _, failure = await listen(client, endpoint, ask())
    assert type(failure) is ModelUnavailable


@pytest.mark.parametrize("name", EMBEDDING)
async def test_every_text_gets_its_vector(start: Start, client: Client, name: str) -> None:
    fake, endpoint = await start(name, "embedding", dimension=384)
    texts = [f"passage number {n}" for n in range(70)]
    vectors = await client.embed(endpoint, texts, input_type="passage")
    assert [[round(x, 4) for x in vector] for vector in vectors] == [
        [round(x, 4) for x in embedding(text)] for text in texts
    ]
    # Text Embeddings Inference takes no more at once, by whichever protocol it is asked.
    assert max(len(request.payload.get("input") or request.payload["inputs"]) for request in fake.requests) == 32


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(kind="embedding", fault="overloaded"), ModelBusy),
        (Reply(kind="embedding", status=500), ModelFailed),
        (Reply(kind="embedding", dimension=8), ModelFailed),
        (Reply(kind="embedding", garbage="{"), ModelFailed),
        (Reply(kind="embedding", garbage='{"error": "no"}'), ModelFailed),
        (Reply(kind="embedding", garbage="[[1, 2], [3]]"), ModelFailed),
        (Reply(kind="embedding", garbage='[["a"]]'), ModelFailed),
        (Reply(kind="embedding", cut_after=0), ModelFailed),
        (Reply(kind="embedding", hang_after=0), ModelTimeout),
    ],
)
@pytest.mark.parametrize("name", EMBEDDING)
async def test_each_embedding_fault_has_one_error(
    start: Start, client: Client, name: str, reply: Reply, expected: type[ModelError]
) -> None:
    deadlines = SHORT if expected is ModelTimeout else Deadlines()
    fake, endpoint = await start(name, "embedding", dimension=384, deadlines=deadlines)
    fake.script(replace(reply, always=True))
    with pytest.raises(expected):
        await client.embed(endpoint, ["a"], input_type="query")
