"""The client against servers that misbehave: the text is kept, deadlines hold, and no foreign error gets out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

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
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Deadlines
from tests.chatbot.listening import ask, listen
from tests.fakes.inference import FakeInference, Reply, make_endpoint

SHORT = Deadlines(first_token=0.5, between_tokens=0.3)
OVERLOADED = {"error": "Model is overloaded", "error_type": "overloaded"}
LONG_PROMPT = '{"error":{"code":"context_length_exceeded"}}'


# Fault rows 16 to 24: what the server does, the text that is kept, and the error it ends in.
@pytest.mark.parametrize(
    ("reply", "text", "expected"),
    [
        pytest.param(Reply(status=500, body="Traceback"), "", ModelFailed, id="16-error-500"),
        pytest.param(Reply(status=429, headers={"Retry-After": "3"}), "", ModelBusy, id="17-429"),
        pytest.param(Reply(status=503), "", ModelBusy, id="17-503"),
        pytest.param(Reply(tokens=[], error_event=OVERLOADED), "", ModelBusy, id="17-overload-as-200"),
        pytest.param(Reply(first_delay=60), "", ModelTimeout, id="18-late-headers"),
        pytest.param(Reply(hang_after=0), "", ModelTimeout, id="18-late-first-token"),
        pytest.param(Reply(hang_after=0, noise=True), "", ModelTimeout, id="18-only-keep-alives"),
        pytest.param(Reply(tokens=["a", "b", "c"], hang_after=2), "ab", ModelTimeout, id="19-hang"),
        pytest.param(Reply(tokens=["a", "b"], hang_after=1, noise=True), "a", ModelTimeout, id="19-hang-keep-alives"),
        pytest.param(Reply(tokens=["a", "b", "c"], cut_after=2), "ab", ModelFailed, id="20-cut"),
        pytest.param(Reply(cut_after=0), "", ModelFailed, id="20-cut-at-once"),
        pytest.param(Reply(tokens=["a", "b"], no_finish=True), "ab", ModelFailed, id="20-done-without-finish"),
        pytest.param(Reply(tokens=["Grüße ", "世界"], split=1), "Grüße 世界", None, id="21-bytes"),
        pytest.param(Reply(tokens=["Grüße ", "世界"], split=7, noise=True), "Grüße 世界", None, id="21-noise"),
        pytest.param(Reply(tokens=["a", "b"], garbage="data: {torn\n\n"), "ab", ModelFailed, id="22-garbage"),
        pytest.param(Reply(tokens=["a"], garbage="data: " + "x" * 10_000_000), "a", ModelFailed, id="22-10-mb-line"),
        pytest.param(Reply(tokens=["a", "b"], no_usage=True), "ab", None, id="24-no-usage"),
        pytest.param(Reply(status=400, body=LONG_PROMPT), "", PromptTooLong, id="long-prompt"),
        pytest.param(Reply(status=500, body="x" * 100_000), "", ModelFailed, id="long-error-page"),
        pytest.param(Reply(headers={"Content-Type": "text/html"}), "", ModelFailed, id="a-web-page"),
    ],
)  # fmt: skip
async def test_each_fault_keeps_the_text_and_has_one_error(
    fake: FakeInference, client: Client, reply: Reply, text: str, expected: type[ParleyError] | None
) -> None:
    fake.script(reply)
    deadlines = SHORT if expected is ModelTimeout else Deadlines()
    heard, deltas, failure = await listen(client, make_endpoint(fake, deadlines=deadlines), ask())
    assert heard == text
    assert (type(failure) if failure else None) is expected
    assert any(delta.finish_reason for delta in deltas) is (failure is None)


async def test_a_busy_server_says_when_to_return(fake: FakeInference, client: Client) -> None:
    fake.script(Reply(status=429, headers={"Retry-After": "3"}))
    _, _, failure = await listen(client, make_endpoint(fake), ask())
    assert failure is not None
    assert failure.retry_after == 3.0


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(kind="embedding", dimension=8), ModelFailed),
        (Reply(kind="embedding", status=500), ModelFailed),
        (Reply(kind="embedding", status=503), ModelBusy),
        (Reply(kind="embedding", garbage='{"data": []}'), ModelFailed),
        (Reply(kind="embedding", garbage="{"), ModelFailed),
        (Reply(kind="embedding", cut_after=0), ModelFailed),
        (Reply(kind="embedding", hang_after=0), ModelTimeout),
    ],
)
async def test_each_embedding_fault_has_one_error(
    fake: FakeInference, client: Client, reply: Reply, expected: type[ModelError]
) -> None:
    fake.script(reply)
    deadlines = SHORT if expected is ModelTimeout else Deadlines()
    endpoint = make_endpoint(fake, kind="embedding", dimension=384, deadlines=deadlines)
    with pytest.raises(expected):
        await client.embed(endpoint, ["a"], input_type="query")


# Sockets that are no model server at all.

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@asynccontextmanager
async def raw_server(answer: bytes, *, hang_up: bool = False) -> AsyncIterator[str]:
    """Says these bytes to whoever asks, then hangs up or waits; gives its base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if not hang_up:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_answer_without_its_promised_usage_is_still_whole(fake: FakeInference, client: Client) -> None:
    # The finish reason comes and then nothing, not even the end of the body.
    async with raw_server(
        STREAM_HEAD + chunk(b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n')
    ) as base_url:
        deadlines = Deadlines(total=2.0)
        text, deltas, failure = await listen(client, make_endpoint(fake, base_url=base_url, deadlines=deadlines), ask())
    assert (text, failure, deltas[-1].finish_reason) == ("a", None, "stop")


async def test_a_connection_that_the_server_gave_up_is_replaced(fake: FakeInference, client: Client) -> None:
    spoken = chunk(b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n') + chunk(
        b"data: [DONE]\n\n"
    )
    connections = []

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(STREAM_HEAD + spoken + chunk(b""))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
        endpoint = make_endpoint(fake, base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        heard = [await listen(client, endpoint, ask()) for _ in range(3)]
        await client.close()
    assert [(text, failure) for text, _, failure in heard] == [("a", None)] * 3
    assert len(connections) == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Ty",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\ndata: ",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\nnot gzip",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 999\r\n\r\nshort",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        STREAM_HEAD + b"zz\r\n",
        STREAM_HEAD + chunk(b"data: {}\n\n"),
        STREAM_HEAD + chunk(b"data: {}\n\n") + b"0\r\n\r\n",
    ],
    ids=range(11),
)
async def test_no_foreign_error_gets_out(fake: FakeInference, client: Client, answer: bytes) -> None:
    async with raw_server(answer, hang_up=True) as base_url:
        endpoint = make_endpoint(fake, base_url=base_url)
        _, _, failure = await listen(client, endpoint, ask())
        assert type(failure) is ModelFailed
        with pytest.raises(ModelFailed):
            await client.embed(endpoint, ["a"], input_type="query")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "base_url",
    [
        pytest.param(f"http://127.0.0.1:{closed_port()}", id="15-refused"),
        pytest.param("http://no-such-host.invalid:1", id="no-such-name"),
    ],
)
async def test_what_cannot_be_reached_is_unavailable(fake: FakeInference, client: Client, base_url: str) -> None:
    _, _, failure = await listen(client, make_endpoint(fake, base_url=base_url), ask())
    assert type(failure) is ModelUnavailable
    assert failure.retry_after


async def test_a_server_without_tls_is_unavailable_over_https(fake: FakeInference, client: Client) -> None:
    _, _, failure = await listen(client, make_endpoint(fake, base_url=f"https://127.0.0.1:{fake.port}"), ask())
    assert type(failure) is ModelUnavailable


async def test_a_server_that_accepts_nobody_is_unavailable_within_the_connect_deadline(
    fake: FakeInference, client: Client
) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        queue = [socket.socket() for _ in range(4)]  # fill its backlog: the kernel then drops what knocks
        for waiting in queue:
            waiting.setblocking(False)
            waiting.connect_ex(address)
        endpoint = make_endpoint(
            fake, base_url=f"http://127.0.0.1:{address[1]}", deadlines=Deadlines(connect=0.2, first_token=5.0)
        )
        _, _, failure = await listen(client, endpoint, ask())
        for waiting in queue:
            waiting.close()
    assert type(failure) is ModelUnavailable


@pytest.mark.parametrize(
    "fields",
    [
        {"base_url": ""},
        {"base_url": "no scheme"},
        {"base_url": "ftp://127.0.0.1"},
        {"base_url": "http://127.0.0.1:99999"},
        {"base_url": "http://[::1"},
        {"api_key": "line\r\nbreak"},
    ],
    ids=str,
)
async def test_an_endpoint_set_up_wrongly_says_so(fake: FakeInference, client: Client, fields: dict[str, Any]) -> None:
    _, _, failure = await listen(client, make_endpoint(fake, **fields), ask())
    assert type(failure) is ModelFailed
    assert "malformed" in failure.message
