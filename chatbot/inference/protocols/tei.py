"""Text Embeddings Inference by its own routes, /embed and /rerank; a server has one of them, by its model. Its OpenAI
route, /v1/embeddings, works under `openai`.

Source: router/src/http/server.rs and types.rs of huggingface/text-embeddings-inference.
"""

from __future__ import annotations

from typing import Final

import orjson

from chatbot.errors import ModelFailed
from chatbot.inference.endpoint import Endpoint, Kind
from chatbot.inference.protocols.base import Browse, Model, Protocol, Served, whole_number
from chatbot.inference.transport import Exchange
from chatbot.inference.wire import InputType, encode, usable_scores, usable_vectors

# Texts in one request that it takes, unless --max-client-batch-size says otherwise.
BATCH: Final = 32


class TEI(Protocol):
    name = "tei"

    async def embed(
        self,
        exchange: Exchange,
        endpoint: Endpoint,
        texts: list[str],
        input_type: InputType,  # noqa: ARG002
    ) -> list[list[float]]:
        # Passages fit these models; a question may be longer, and its beginning tells more than a refusal.
        payload = encode({"inputs": texts, "truncate": True, "normalize": True})
        response = await exchange.post(endpoint.url("embed"), payload)
        return usable_vectors(read_vectors(await exchange.whole(response)), len(texts))

    async def rerank(self, exchange: Exchange, endpoint: Endpoint, query: str, texts: list[str]) -> list[float]:
        scores: list[float] = []
        # Each text is judged by itself, so scores of several requests can be compared.
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            payload = encode({"query": query, "texts": batch, "truncate": True})
            response = await exchange.post(endpoint.url("rerank"), payload)
            scores += usable_scores(read_ranks(await exchange.whole(response)), "score", len(batch))
        return scores

    async def recognise(self, browse: Browse) -> Served | None:
        info = await browse("info")
        if "max_client_batch_size" not in info or not isinstance(info.get("model_type"), dict):
            return None
        kind = info["model_type"]
        only: Kind | None = "rerank" if "reranker" in kind else "embedding" if "embedding" in kind else None
        model = Model(str(info.get("model_id")), whole_number(info.get("max_input_length")))
        title = f"Text Embeddings Inference {info.get('version', '')}".strip()
        return Served("tei", title, (model,), any_name=True, only=only)


def read_vectors(body: bytes) -> list[list[float]]:
    """A list of vectors in the order of the texts."""
    try:
        vectors = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ModelFailed("The embedding server's answer was not understood.") from error
    if not isinstance(vectors, list) or not all(isinstance(vector, list) for vector in vectors):
        raise ModelFailed("The embedding server's answer was not understood.")
    return vectors


def read_ranks(body: bytes) -> object:
    """What it says of each text, the best first."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ModelFailed("The reranking server's answer was not understood.") from error
