"""What "Test now" says: one sentence that names what is wrong, whatever it is."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from django.test import override_settings

from apps.inference import diagnosis
from apps.inference.models import Endpoint
from apps.inference.probe import ProbeResult, probe
from chatbot.inference import transport
from tests.fakes.certificates import Authority
from tests.fakes.dialects import VLLM, Dialect, LlamaCpp
from tests.fakes.huggingface import TEI, TGI, TEIReranker, TGIGenerate
from tests.fakes.inference import DIMENSION, FakeInference, Reply

pytestmark = pytest.mark.usefixtures("database")


def row(base_url: str, **fields: Any) -> Endpoint:
    """An endpoint that was never saved, as `init` and the add form have it."""
    return Endpoint(**{"name": "Test", "model": "fake", "base_url": base_url, "context_length": 4096, **fields})


async def outcome(dialect: Dialect, *script: Reply, api_key: str = "", **fields: Any) -> ProbeResult:
    async with FakeInference(dialect=dialect, api_key=api_key) as fake:
        fake.script(*script)
        return await probe(row(fake.base_url, **fields))


EMBEDDING = {"kind": "embedding", "dimension": DIMENSION}
RERANK = {"kind": "rerank"}


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        (Dialect(), {"protocol": "openai"}),
        (VLLM(), {"protocol": "vllm"}),
        (TGI(), {"protocol": "tgi"}),
        (TGIGenerate(), {"protocol": "tgi-generate"}),
        (LlamaCpp(), {"protocol": "llamacpp"}),
        (VLLM(), {"protocol": "hf"}),
        (Dialect(), {"protocol": "openai", **EMBEDDING}),
        (TEI(), {"protocol": "tei", **EMBEDDING}),
        (Dialect(), {"protocol": "openai", **RERANK}),
        (VLLM(), {"protocol": "vllm", **RERANK}),
        (LlamaCpp(), {"protocol": "llamacpp", **RERANK}),
        (TEIReranker(), {"protocol": "tei", **RERANK}),
        (TEIReranker(), {"protocol": "hf", **RERANK}),
    ],
    ids=lambda value: value["protocol"] if isinstance(value, dict) else "",
)
async def test_nothing_is_wrong_with_a_server_that_is_set_up_right(dialect: Dialect, fields: dict[str, Any]) -> None:
    result = await outcome(dialect, **fields)
    assert (result.error, result.advice) == ("", "")
    assert result.words or result.dimension == DIMENSION or result.scores[0] > result.scores[1]


async def test_nothing_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert (await probe(row(address))).error == f"Nothing answers at {address}: the model server cannot be reached."


async def test_a_certificate_that_will_not_do_is_told(tmp_path: Path) -> None:
    async with FakeInference(tls=Authority(tmp_path).server("127.0.0.1")) as fake:
        assert (await probe(row(fake.base_url))).error == transport.UNTRUSTED
        assert "cannot be reached" not in transport.UNTRUSTED


async def test_https_where_none_is_spoken_is_told() -> None:
    async with FakeInference() as fake:
        assert (await probe(row(fake.base_url.replace("http:", "https:")))).error == transport.NO_TLS


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (("<html>Welcome</html>", "text/html", 200), "a web page"),
        (("not found", "text/plain", 404), "status 404"),
        (('{"status": "ok"}', "application/json", 200), "JSON of something else"),
    ],
)
@pytest.mark.parametrize("fields", [{}, EMBEDDING, RERANK], ids=["chat", "embedding", "rerank"])
async def test_not_a_model_server(answer: tuple[str, str, int], what: str, fields: dict[str, Any]) -> None:
    text, content_type, status = answer

    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    result = await probe(row(address, **fields))
    await runner.cleanup()
    assert result.error == f"What answers at {address} is no model server that we know: it gave {what}."


@pytest.mark.parametrize(
    ("dialect", "fields", "sentence"),
    [
        (VLLM(), {"protocol": "tgi-generate"}, "this looks like vLLM 0.11.0. Choose “vLLM”."),
        (LlamaCpp(), {"protocol": "tei", **EMBEDDING}, "this looks like llama.cpp. Choose “llama.cpp”."),
        (Dialect(), {"protocol": "tei", **EMBEDDING}, "an OpenAI-compatible server. Choose “OpenAI-compatible”."),
        (TEI(), {"protocol": "vllm"}, "This is Text Embeddings Inference 1.7.2, which embeds and does not chat."),
        (TEI(), {"protocol": "tei", **RERANK}, "Inference 1.7.2, which embeds and does not rerank."),
        (TEIReranker(), {"protocol": "tei", **EMBEDDING}, "Inference 1.7.2, which reranks and does not embed."),
        (TEIReranker(), {"protocol": "openai", **RERANK}, "this looks like Text Embeddings Inference 1.7.2. Choose"),
        (VLLM(), {"protocol": "tei", **RERANK}, "this looks like vLLM 0.11.0. Choose “vLLM”."),
    ],
)
async def test_wrong_protocol_names_the_right_one(dialect: Dialect, fields: dict[str, Any], sentence: str) -> None:
    assert sentence in (await outcome(dialect, **fields)).error


class ChatVLLM(VLLM):
    reranks = False


class ChatLlamaCpp(LlamaCpp):
    reranks = False


@pytest.mark.parametrize(
    ("dialect", "protocol", "server"),
    [(ChatVLLM(), "vllm", "vLLM 0.11.0"), (ChatLlamaCpp(), "llamacpp", "llama.cpp")],
)
async def test_a_server_that_chats_and_does_not_rerank_is_told(dialect: Dialect, protocol: str, server: str) -> None:
    result = await outcome(dialect, protocol=protocol, **RERANK)
    assert result.error == f"This is {server}, and what runs there does not rerank."


async def test_a_wrong_model_for_reranking_is_told() -> None:
    result = await outcome(VLLM("bge"), protocol="vllm", model="smol", **RERANK)
    assert result.error == "The server has no model “smol”; it has bge."


async def test_a_model_that_muddles_texts_is_advice() -> None:
    muddled = '[{"index": 0, "score": 0.1}, {"index": 1, "score": 0.9}]'
    result = await outcome(TEIReranker(), Reply(kind="rerank", garbage=muddled), protocol="tei", **RERANK)
    assert (result.error, result.advice) == ("", diagnosis.MUDDLED)


async def test_scores_that_are_none_are_told() -> None:
    result = await outcome(TEIReranker(), Reply(kind="rerank", garbage="[]"), protocol="tei", **RERANK)
    assert result.error == "The reranking server gave 0 scores for 2 texts."


async def test_unknown_model_lists_some_that_are_served() -> None:
    dialect = VLLM(*(f"model-{n}" for n in range(8)))
    result = await outcome(dialect, protocol="vllm", model="smol")
    assert result.error == (
        "The server has no model “smol”; it has model-0, model-1, model-2, model-3, model-4 and 3 more."
    )


async def test_wrong_dimension_says_both_numbers() -> None:
    result = await outcome(TEI(), kind="embedding", protocol="tei", dimension=768)
    assert result.error == "The server's vectors have 384 dimensions where 768 are set here."
    assert result.offers(row("", kind="embedding", dimension=768)) == {"dimension": 384}


@pytest.mark.parametrize(("dialect", "protocol"), [(VLLM(), "vllm"), (TGI(), "tgi"), (LlamaCpp(), "llamacpp")])
async def test_too_long_a_context_says_both_numbers(dialect: Dialect, protocol: str) -> None:
    result = await outcome(dialect, protocol=protocol, context_length=8192)
    assert result.error == "The context length is 8192 here, but the server takes 4096 tokens."
    assert result.offers(row("", context_length=8192)) == {"context_length": 4096}
    assert (await outcome(dialect, protocol=protocol, context_length=2048)).error == ""


@pytest.mark.parametrize("dialect", [Dialect(), VLLM(), TGI(), LlamaCpp()])
async def test_a_missing_key_is_told(dialect: Dialect) -> None:
    assert (await outcome(dialect, api_key="sesame")).error == "The model server asks for a key, and none is set."


async def test_wrong_key_is_told_apart_from_a_missing_one() -> None:
    async with FakeInference(dialect=VLLM(), api_key="sesame") as fake:
        assert (await probe(row(fake.base_url, api_key="wrong"))).error == "The model server does not accept our key."
        assert (await probe(row(fake.base_url, api_key="sesame"))).error == ""


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (Reply(fault="overloaded"), "The model server is busy."),
        (Reply(status=500), "The model server failed (500)."),
        (Reply(cut_after=1), "The model server broke off in the middle of its answer."),
    ],
)
async def test_a_server_that_fails_says_how(reply: Reply, sentence: str) -> None:
    assert (await outcome(VLLM(), reply, protocol="vllm")).error == sentence


async def test_a_private_address_names_the_setting_that_allows_it() -> None:
    async with FakeInference() as fake:
        with override_settings(PARLEY_PRIVATE_ENDPOINT_HOSTS=[]):
            result = await probe(row(fake.base_url))
    assert "PARLEY_PRIVATE_ENDPOINT_HOSTS" in result.error
    assert not fake.requests


async def test_another_name_for_the_protocol_is_advice_and_no_error() -> None:
    result = await outcome(VLLM(), protocol="openai")
    assert result.error == ""
    assert result.advice == "This is vLLM 0.11.0. It works, and the protocol “vLLM” would name it."
    assert (result.server, result.context_length) == ("vLLM 0.11.0", 4096)
