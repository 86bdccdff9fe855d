"""Vectors of texts, made by the model that an index stands for and by no other."""

from __future__ import annotations

from apps.inference import gateway
from apps.knowledge.models import EmbeddingIndex
from chatbot.errors import ModelFailed
from chatbot.inference.asker import Asker, Rank
from chatbot.inference.wire import InputType


async def embed(index: EmbeddingIndex, texts: list[str], *, input_type: InputType) -> list[list[float]]:
    """A vector of the index's dimension for each text. `index` comes with its endpoint.

    Raises a ModelError; ModelFailed too where the endpoint was given another model since the index was made, whose
    vectors would be compared with ours and mean nothing.
    """
    endpoint = index.endpoint
    if (endpoint.model, endpoint.dimension) != (index.model, index.dimension):
        raise ModelFailed(
            f"The embedding endpoint {endpoint.name} now serves {endpoint.model} ({endpoint.dimension} dimensions), "
            f"but this collection was embedded by {index.model} ({index.dimension})."
        )
    pool = await gateway.pool()
    # Somebody waits for the vector of a question; documents can wait.
    rank = Rank.INTERACTIVE if input_type == "query" else Rank.INGESTION
    asker = Asker(tenant=str(index.tenant_id), rank=rank)
    vectors = await pool.embed(str(endpoint.pk), texts, input_type=input_type, asker=asker)
    if any(len(vector) != index.dimension for vector in vectors):
        raise ModelFailed(f"The embedding endpoint {endpoint.name} gave vectors of a wrong dimension.")
    return vectors
