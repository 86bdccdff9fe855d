"""Text Embeddings Inference by its own route, /embed. Its OpenAI route, /v1/embeddings, works under `openai`.

Source: router/src/http/server.rs and types.rs of huggingface/text-embeddings-inference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import orjson

from chatbot.errors import ModelFailed
from chatbot.inference.endpoint import Endpoint
from chatbot.inference.protocols.base import Browse, Model, Protocol, Served, whole_number
from chatbot.inference.transport import Exchange
from chatbot.inference.wire import InputType, encode, usable_vectors

BATCH: Final = 32  # texts a request: the default of --max-client-batch-size, beyond which it answers 413


class TEI(Protocol):
    name = "tei"

    async def embed(
        self,
        exchange: Exchange,
        endpoint: Endpoint,
        texts: list[str],
        input_type: InputType,  # noqa: ARG002
    ) -> list[list[float]]:
        vectors: list[list[float]] = []
        for batch in batches(texts):
            # Passages fit these models; a question may be longer, and its beginning tells more than a refusal.
            payload = encode({"inputs": batch, "truncate": True, "normalize": True})
            response = await exchange.post(endpoint.url("embed"), payload)
            vectors += read_vectors(await exchange.whole(response))
        return usable_vectors(vectors, len(texts))

    async def recognise(self, browse: Browse) -> Served | None:
        info = await browse("info")
        if "max_client_batch_size" not in info or not isinstance(info.get("model_type"), dict):
            return None
        model = Model(str(info.get("model_id")), whole_number(info.get("max_input_length")))
        title = f"Text Embeddings Inference {info.get('version', '')}".strip()
        return Served("tei", title, (model,), any_name=True, embeds_only=True)


def batches(texts: list[str]) -> Iterator[list[str]]:
    """As many texts at a time as a server takes that was started with its defaults."""
    return (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))


def read_vectors(body: bytes) -> list[list[float]]:
    """A list of vectors in the order of the texts."""
    try:
        vectors = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ModelFailed("The embedding server's answer was not understood.") from error
    if not isinstance(vectors, list) or not all(isinstance(vector, list) for vector in vectors):
        raise ModelFailed("The embedding server's answer was not understood.")
    return vectors
