"""Hugging Face beyond the truth table: tokens, providers, and what the library must not do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from chatbot.errors import InvalidRequest, ModelFailed, ModelUnavailable
from chatbot.inference.client import Client
from tests.chatbot.listening import ask, listen
from tests.chatbot.protocols.conftest import Start
from tests.fakes.huggingface import HUB_MODEL
from tests.fakes.inference import Reply


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
    async with asyncio.timeout(30):
        while held() != before:  # noqa: ASYNC110 - the kernel has no event for a closed descriptor
            await asyncio.sleep(0.01)


async def test_only_hf_inference_embeds_by_a_models_id(start: Start, client: Client) -> None:
    fake, endpoint = await start("hf", "embedding")
    await client.embed(endpoint, ["a"], input_type="query")
    assert fake.requests[0].path.endswith("/intfloat/multilingual-e5-small/pipeline/feature-extraction")
    with pytest.raises(ModelFailed, match="hf-inference"):
        await client.embed(replace(endpoint, model=f"{endpoint.model}:together"), ["a"], input_type="query")
