"""A scripted server of each kind, and an endpoint that points at it by the protocol under test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.inference._providers import CONVERSATIONAL_AUTO_ROUTER

from chatbot.inference.endpoint import Endpoint
from tests.fakes.dialects import VLLM, Dialect, LlamaCpp, ReasoningOpenAI, StrictOpenAI
from tests.fakes.huggingface import HUB_MODEL, TEI, TGI, HuggingFace, TEIReranker, TGIGenerate
from tests.fakes.inference import FakeInference, make_endpoint

Start = Callable[..., Awaitable[tuple[FakeInference, Endpoint]]]

TOKEN = "hf_sesame"

# By the names under which the tests speak of them; "hf" goes by a model's id, "hf-dedicated" by an address.
CHAT: dict[str, type[Dialect]] = {
    "openai": Dialect,
    "openai-reasoning": ReasoningOpenAI,
    "vllm": VLLM,
    "tgi": TGI,
    "tgi-generate": TGIGenerate,
    "llamacpp": LlamaCpp,
    "hf": HuggingFace,
    "hf-dedicated": VLLM,
}


class RootTEI(TEI):
    """TEI in a dedicated endpoint: huggingface_hub asks at the root, which router/src/http/server.rs routes to it."""

    embed_path = "/"


EMBEDDING: dict[str, type[Dialect]] = {
    "openai": Dialect,
    "openai-strict": StrictOpenAI,
    "tei": TEI,
    "hf": HuggingFace,
    "hf-dedicated": RootTEI,
}


RERANKING: dict[str, type[Dialect]] = {
    "openai": Dialect,
    "vllm": VLLM,
    "llamacpp": LlamaCpp,
    "tei": TEIReranker,
    "hf-dedicated": TEIReranker,
}
BY_KIND = {"chat": CHAT, "embedding": EMBEDDING, "rerank": RERANKING}


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """start("vllm") gives a server and an endpoint that speaks to it."""
    async with AsyncExitStack() as stack:

        async def started(name: str, kind: str = "chat", **fields: Any) -> tuple[FakeInference, Endpoint]:
            dialect = BY_KIND[kind][name]()
            fake = await stack.enter_async_context(FakeInference(dialect=dialect))
            defaults: dict[str, Any] = {"protocol": name.partition("-")[0], "kind": kind, "api_key": TOKEN}
            if name == "tgi-generate":
                defaults["protocol"] = name
            if name == "hf":
                point_hub_at(fake, monkeypatch)
                model = HUB_MODEL if kind == "chat" else "intfloat/multilingual-e5-small"
                defaults |= {"base_url": "", "model": model}
            return fake, make_endpoint(fake, **(defaults | fields))

        yield started


def point_hub_at(fake: FakeInference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub, and us, find Hugging Face at the fake."""
    monkeypatch.setattr(constants, "INFERENCE_PROXY_TEMPLATE", fake.base_url + "/{provider}")
    monkeypatch.setattr(CONVERSATIONAL_AUTO_ROUTER, "base_url", fake.base_url)
    monkeypatch.setattr(constants, "ENDPOINT", fake.base_url)
    monkeypatch.setattr(constants, "INFERENCE_ENDPOINTS_ENDPOINT", fake.base_url)
