"""OpenAI's chat completions and embeddings, which nearly every model server speaks, and reranking, which OpenAI lacks:
there servers follow Jina.

Reference: https://platform.openai.com/docs/api-reference/chat/create and /embeddings/create;
https://api.jina.ai/redoc (POST /v1/rerank), vLLM's entrypoints/pooling/score, llama.cpp's tools/server/README.md.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import aiohttp
import orjson

from chatbot.errors import ModelFailed
from chatbot.inference.endpoint import Endpoint, ProtocolName
from chatbot.inference.protocols.base import Browse, Model, Protocol, Served
from chatbot.inference.transport import Exchange
from chatbot.inference.wire import ChatRequest, InputType, Message, encode, usable_scores, usable_vectors

# How OpenAI refuses what its reasoning models do not take: max_tokens, and a temperature that is not their own.
REASONING: Final = (b"max_completion_tokens", b"unsupported_value")


class OpenAI(Protocol):
    name: ClassVar[ProtocolName] = "openai"

    async def ask(self, exchange: Exchange, endpoint: Endpoint, request: ChatRequest) -> aiohttp.ClientResponse:
        url = endpoint.url("v1/chat/completions")
        try:
            return await exchange.post(url, chat_payload(endpoint.model, request))
        except ModelFailed:
            if not any(mark in exchange.refusal for mark in REASONING):
                raise
            return await exchange.post(url, chat_payload(endpoint.model, request, reasoning=True))

    async def embed(
        self, exchange: Exchange, endpoint: Endpoint, texts: list[str], input_type: InputType
    ) -> list[list[float]]:
        url = endpoint.url("v1/embeddings")
        try:
            response = await exchange.post(url, embeddings_payload(endpoint.model, texts, input_type))
        except ModelFailed:
            if exchange.refused not in (400, 422):
                raise
            # OpenAI and Mistral refuse fields that they do not know.
            response = await exchange.post(url, embeddings_payload(endpoint.model, texts))
        return read_embeddings(await exchange.whole(response), len(texts))

    async def rerank(self, exchange: Exchange, endpoint: Endpoint, query: str, texts: list[str]) -> list[float]:
        # All at once, since some models compare the texts with each other.
        payload = encode({"model": endpoint.model, "query": query, "documents": texts})
        response = await exchange.post(endpoint.url("v1/rerank"), payload)
        return read_results(await exchange.whole(response), len(texts))

    async def recognise(self, browse: Browse) -> Served | None:
        listed = listed_models(await browse("v1/models"))
        if not listed:
            return None
        return Served("openai", "an OpenAI-compatible server", tuple(Model(card["id"]) for card in listed))


def chat_payload(model: str, request: ChatRequest, *, reasoning: bool = False) -> bytes:
    """The body for POST /v1/chat/completions, streaming. Raises InvalidRequest for text that is not Unicode.

    reasoning: as OpenAI's reasoning models want it, which refuse the rest.
    """
    begun = [Message("assistant", request.begun)] if request.begun else []
    body: dict[str, Any] = {
        "model": model,
        "messages": [*request.messages, *begun],
        "max_completion_tokens" if reasoning else "max_tokens": request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if begun:
        # vLLM's words, which others took over; OpenAI has none, and would answer once more.
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    if reasoning:
        return encode(body)
    body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.stop:
        body["stop"] = request.stop
    return encode(body)


def embeddings_payload(model: str, texts: list[str], input_type: InputType | None = None) -> bytes:
    """The body for POST /v1/embeddings. Raises InvalidRequest for text that is not Unicode."""
    body: dict[str, Any] = {"model": model, "input": texts, "encoding_format": "float"}
    if input_type:
        # Not OpenAI's: models such as E5 embed questions and passages differently, and their servers read it.
        body["input_type"] = input_type
    return encode(body)


def read_embeddings(body: bytes, count: int) -> list[list[float]]:
    """The vectors in the order of the texts. Raises ModelFailed unless they are `count` usable ones of one length."""
    try:
        rows = {row["index"]: row["embedding"] for row in orjson.loads(body)["data"]}
        vectors = [rows[index] for index in range(len(rows))]
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise ModelFailed("The embedding server's answer was not understood.") from error
    return usable_vectors(vectors, count)


def read_results(body: bytes, count: int) -> list[float]:
    """The scores in the order of the texts. Raises ModelFailed unless they are `count` usable ones."""
    try:
        results = orjson.loads(body)["results"]
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:  # NaN is no JSON, either
        raise ModelFailed("The reranking server's answer was not understood.") from error
    return usable_scores(results, "relevance_score", count)


def listed_models(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The cards of GET /v1/models."""
    cards = body.get("data")
    if not isinstance(cards, list):
        return []
    return [card for card in cards if isinstance(card, dict) and isinstance(card.get("id"), str)]
