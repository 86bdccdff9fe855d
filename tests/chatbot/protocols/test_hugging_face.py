"""Hugging Face beyond the truth table: tokens, providers, endpoints that sleep, and what the library must not do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from huggingface_hub import constants

from chatbot.errors import InvalidRequest, ModelError, ModelFailed, ModelUnavailable
from chatbot.inference.client import Client
from chatbot.inference.protocols.hf import wake
from tests.chatbot.listening import ask, listen
from tests.chatbot.protocols.conftest import TOKEN, Start
from tests.fakes.huggingface import HUB_MODEL
from tests.fakes.inference import Reply, make_endpoint


async def test_a_provider_is_chosen_with_the_model(start: Start, client: Client) -> None:
    fake, endpoint = await start("hf", model=f"{HUB_MODEL}:together")
    text, _, _ = await listen(client, endpoint, ask("Hello?"))
    assert text == "You asked: Hello? [1]"
    assert fake.requests[0].path == "/v1/chat/completions"
    assert fake.requests[0].payload["model"] == f"{HUB_MODEL}:together"


async def test_a_dedicated_endpoint_may_end_in_v1(start: Start, client: Client) -> None:
    fake, endpoint = await start("hf-dedicated")
    for base_url in (endpoint.base_url + "/", endpoint.base_url + "/v1", endpoint.base_url + "/v1/"):
        text, _, _ = await listen(client, replace(endpoint, base_url=base_url), ask("Hello?"))
        assert text == "You asked: Hello? [1]"
    assert {request.payload["model"] for request in fake.requests} == {"fake"}


@pytest.mark.parametrize("key", ["", "sk-of-somebody-else"])
async def test_inference_providers_ask_for_a_token(start: Start, client: Client, key: str) -> None:
    fake, endpoint = await start("hf", api_key=key)
    _, _, failure = await listen(client, endpoint, ask())
    assert type(failure) is ModelFailed
    assert "hf_…" in failure.message
    assert not fake.requests


async def test_an_endpoint_that_sleeps_says_so(start: Start, client: Client) -> None:
    fake, endpoint = await start("hf-dedicated")
    fake.script(Reply(status=503, body="503 Service Unavailable"))
    _, _, failure = await listen(client, endpoint, ask())
    assert type(failure) is ModelUnavailable
    assert "asleep" in failure.message
    assert failure.retry_after == 60


async def test_offline_mode_of_the_hub_does_not_stop_answers(
    start: Start, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    _, endpoint = await start("hf-dedicated")
    _, _, failure = await listen(client, endpoint, ask())
    assert failure is None


async def test_no_redirect_is_followed(start: Start, client: Client) -> None:
    fake, endpoint = await start("hf")
    fake.script(Reply(status=307, headers={"Location": "/v1/chat/completions"}))
    _, _, failure = await listen(client, endpoint, ask())
    assert type(failure) is ModelFailed
    assert len(fake.requests) == 1


async def test_the_key_goes_to_no_address_in_a_models_name(start: Start, client: Client) -> None:
    fake, endpoint = await start("hf")
    for model in (fake.base_url, fake.base_url.replace("http", "HTTP")):
        _, _, failure = await listen(client, replace(endpoint, model=model), ask())
        assert type(failure) is ModelFailed
        assert not fake.requests
        assert "base URL" in failure.message


async def test_requests_tell_nothing_of_what_is_installed(start: Start, client: Client) -> None:
    fake, endpoint = await start("hf")
    await listen(client, endpoint, ask())
    assert "hf_hub" not in fake.requests[0].headers["User-Agent"]
    assert constants.HF_HUB_DISABLE_TELEMETRY


async def test_text_that_is_not_unicode_is_refused(start: Start, client: Client) -> None:
    _, endpoint = await start("hf")
    _, _, failure = await listen(client, endpoint, ask("\ud800"))
    assert type(failure) is InvalidRequest


async def test_nothing_is_left_of_streams_however_they_end(start: Start) -> None:
    def held() -> tuple[int, int]:
        return len(asyncio.all_tasks()), len(list(Path("/proc/self/fd").iterdir()))

    fake, endpoint = await start("hf-dedicated")
    client = Client(allowed=["127.0.0.1"])
    before = held()
    fake.script(*[Reply(), Reply(cut_after=1), Reply(status=500), Reply(tokens=["a"], garbage="data: {\n\n")] * 5)
    for _ in range(20):
        await listen(client, endpoint, ask())
    await client.close()
    async with asyncio.timeout(5):
        while held() != before:  # noqa: ASYNC110 - the kernel has no event for a closed descriptor
            await asyncio.sleep(0.01)


async def test_only_hf_inference_embeds_by_a_models_id(start: Start, client: Client) -> None:
    fake, endpoint = await start("hf", "embedding")
    await client.embed(endpoint, ["a"], input_type="query")
    assert fake.requests[0].path.endswith("/intfloat/multilingual-e5-small/pipeline/feature-extraction")
    with pytest.raises(ModelFailed, match="hf-inference"):
        await client.embed(replace(endpoint, model=f"{endpoint.model}:together"), ["a"], input_type="query")


# --- Endpoints that sleep ---------------------------------------------------------------------------------------------

HOST = "https://abc.eu-west-1.aws.endpoints.huggingface.cloud"


@asynccontextmanager
async def hugging_face(state: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """The API of huggingface_hub's HfApi (whoami-v2) and of Inference Endpoints (api.endpoints.huggingface.cloud/v2),
    as hf_api.py and _inference_endpoints.py of huggingface_hub 2.4 ask and read it. Gives what it was asked."""
    asked: list[str] = []

    def described(now: str) -> dict[str, Any]:
        return {
            "name": "sleeper",
            "type": "protected",
            "healthRoute": "/health",
            "model": {"repository": "org/model", "framework": "pytorch", "revision": "main", "task": "text-generation"},
            "status": {
                "state": now,
                "url": HOST,
                "createdAt": "2026-01-01T00:00:00.000Z",
                "updatedAt": "2026-01-01T00:00:00.000Z",
            },
        }

    async def answer(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path}")
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": "Invalid credentials in Authorization header"}, status=401)
        if request.path == "/api/whoami-v2":
            return web.json_response({"type": "user", "name": "alice", "orgs": [{"name": "acme"}]})
        if request.path == "/endpoint/acme/sleeper/resume":
            return web.json_response(described("pending"))
        return web.json_response({"items": [described(state)] if request.path.endswith("acme") else []})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = "http://{}:{}".format(*runner.addresses[0][:2])
    monkeypatch.setenv("HF_TOKEN", "hf_of_whoever_runs_this")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "INFERENCE_ENDPOINTS_ENDPOINT", address)
    try:
        yield asked
    finally:
        await runner.cleanup()


def sleeper(**fields: Any) -> Any:
    return make_endpoint(None, **{"base_url": f"{HOST}/v1", "protocol": "hf", "api_key": TOKEN, **fields})


@pytest.mark.parametrize("state", ["paused", "scaledToZero"])
async def test_an_endpoint_that_sleeps_is_woken(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with hugging_face(state, monkeypatch) as asked:
        assert await wake(sleeper()) == "pending"
    assert asked[-1] == "POST /endpoint/acme/sleeper/resume"


async def test_one_that_runs_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hugging_face("running", monkeypatch) as asked:
        assert await wake(sleeper()) == "running"
    assert not any("resume" in request for request in asked)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"base_url": "https://other.endpoints.huggingface.cloud"}, "no Inference Endpoint at this address"),
        ({"api_key": "hf_wrong"}, "does not let this token"),
        ({"api_key": ""}, "asks for a token"),
    ],
)
async def test_what_cannot_be_woken_says_why(
    fields: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hugging_face("paused", monkeypatch):
        with pytest.raises(ModelError, match=sentence):
            await wake(sleeper(**fields))
