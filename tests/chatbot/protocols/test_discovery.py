"""Looking what stands at an address: every server is known as what it is, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from chatbot.errors import ModelUnavailable
from chatbot.inference.client import Client
from chatbot.inference.protocols.base import Model
from tests.chatbot.protocols.conftest import Start
from tests.fakes.huggingface import HUB_MODEL
from tests.fakes.inference import CONTEXT_LENGTH, FakeInference, make_endpoint


@pytest.mark.parametrize(
    ("name", "known_as", "context_length"),
    [
        ("openai", ("openai", "an OpenAI-compatible server"), None),
        ("vllm", ("vllm", "vLLM 0.11.0"), CONTEXT_LENGTH),
        ("tgi", ("tgi", "Text Generation Inference 3.0.2"), CONTEXT_LENGTH),
        ("tgi-generate", ("tgi", "Text Generation Inference 3.0.2"), CONTEXT_LENGTH),
        ("llamacpp", ("llamacpp", "llama.cpp"), CONTEXT_LENGTH),
        ("hf-dedicated", ("vllm", "vLLM 0.11.0"), CONTEXT_LENGTH),
    ],
)
async def test_a_chat_server_is_known(
    start: Start, client: Client, name: str, known_as: tuple[str, str], context_length: int | None
) -> None:
    _, endpoint = await start(name)
    served = (await client.look(endpoint)).served
    assert served is not None
    assert (served.protocol, served.title) == known_as
    assert served.model("fake") == Model("fake", context_length)


async def test_an_embedding_server_is_known(start: Start, client: Client) -> None:
    _, endpoint = await start("tei", "embedding")
    served = (await client.look(endpoint)).served
    assert served is not None
    assert (served.protocol, served.title) == ("tei", "Text Embeddings Inference 1.7.2")
    assert served.only == "embedding"
    assert served.model("any name") == Model("fake", 512)


async def test_a_reranking_server_is_known(start: Start, client: Client) -> None:
    _, endpoint = await start("tei", "rerank")
    served = (await client.look(endpoint)).served
    assert served is not None
    assert (served.protocol, served.only) == ("tei", "rerank")


async def test_providers_tell_their_context_lengths(start: Start, client: Client) -> None:
    _, endpoint = await start("hf")
    served = (await client.look(endpoint)).served
    assert served is not None
    assert served.model(f"{HUB_MODEL}:groq") == Model(f"{HUB_MODEL}:groq", 2 * CONTEXT_LENGTH)
    assert served.model(HUB_MODEL) == Model(HUB_MODEL, CONTEXT_LENGTH)  # the router may choose the shorter one
    assert served.model("org/unheard-of") is None


async def test_a_models_own_configuration_tells_where_no_provider_does(start: Start, client: Client) -> None:
    _, endpoint = await start("hf", "embedding")
    served = (await client.look(endpoint)).served
    assert served is not None
    assert served.model(endpoint.model) == Model("intfloat/multilingual-e5-small", 512)


async def test_the_hub_may_move_its_files(start: Start, client: Client) -> None:
    fake, endpoint = await start("hf", "embedding")
    fake.moved["/intfloat/multilingual-e5-small/resolve/main/config.json"] = "/api/resolve-cache/config.json"
    served = (await client.look(endpoint)).served
    assert served is not None
    assert served.model(endpoint.model) == Model("intfloat/multilingual-e5-small", 512)


async def test_a_missing_key_is_told(client: Client) -> None:
    async with FakeInference(api_key="sesame") as fake:
        assert (await client.look(make_endpoint(fake))).key_refused
        seen = await client.look(make_endpoint(fake, api_key="sesame"))
    assert not seen.key_refused
    assert seen.served is not None


@asynccontextmanager
async def stranger(answer: web.Response) -> AsyncIterator[str]:
    """A web server that says the same to everything."""

    async def handle(_: web.Request) -> web.Response:
        copy = web.Response(body=answer.body, status=answer.status)
        copy.content_type = answer.content_type
        return copy

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


STRANGERS = {
    "a web page": web.Response(text="<html>Welcome to nginx!</html>", content_type="text/html"),
    "JSON of something else": web.json_response({"status": "ok", "cluster_name": "elasticsearch"}),
    "status 404": web.Response(text="404 page not found", status=404),
    "status 200": web.Response(text="OK"),
}


@pytest.mark.parametrize("what", STRANGERS)
async def test_a_stranger_is_described(client: Client, what: str) -> None:
    async with stranger(STRANGERS[what]) as base_url:
        seen = await client.look(make_endpoint(None, base_url=base_url))
    assert seen.served is None
    assert seen.what == what


@pytest.mark.parametrize(
    "body",
    [
        '{"data": "x"}',
        '{"data": [1, {"id": 7}]}',
        '{"model_id": "m", "max_total_tokens": "many"}',
        '{"default_generation_settings": []}',
        '{"model_type": 5, "max_client_batch_size": 32}',
        "[]",
    ],
)
async def test_a_malformed_answer_is_no_server(client: Client, body: str) -> None:
    async with stranger(web.Response(text=body, content_type="application/json")) as base_url:
        assert (await client.look(make_endpoint(None, base_url=base_url))).served is None


async def test_where_nothing_answers_nothing_is_seen(client: Client) -> None:
    with pytest.raises(ModelUnavailable):
        await client.look(make_endpoint(None, base_url="http://127.0.0.1:9"))
