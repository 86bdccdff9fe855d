"""Vectors for clients that speak OpenAI's API, by the embedding endpoints of their tenant."""

from __future__ import annotations

import base64
import struct
import uuid
from typing import Any

from django.db.models import Q

from apps.access.authentication import Caller
from apps.conversations.parties import end_user_of
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from apps.usage import ledger
from chatbot.errors import InvalidRequest, NotFound
from chatbot.events import Usage
from chatbot.inference.asker import Asker
from chatbot.inference.wire import InputType
from chatbot.tokens import estimate


async def embeddings(
    caller: Caller,
    *,
    model: str,
    input: list[str],  # noqa: A002 - OpenAI's word
    encoding_format: str = "float",
    dimensions: int | None = None,
    input_type: InputType = "passage",
    user: str = "",
) -> dict[str, Any]:
    """OpenAI's answer to a call for embeddings, entered in the ledger. Tokens are estimated: not every server counts.

    Raises NotFound where the tenant has no such model, InvalidRequest, or a ModelError, which costs nothing.
    """
    endpoint = await unit(_endpoint, caller.tenant, model)
    if dimensions not in {None, endpoint.dimension}:
        raise InvalidRequest(fields={"dimensions": f"This model's vectors have {endpoint.dimension} numbers."})
    pool = await gateway.pool()
    asker = Asker(tenant=str(caller.tenant.pk))
    vectors = await pool.embed(str(endpoint.pk), input, input_type=input_type, asker=asker)
    tokens = sum(estimate(text) for text in input)
    await unit(_enter, caller, user, endpoint.pk, tokens)
    encode = _base64 if encoding_format == "base64" else list
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)} for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _endpoint(tenant: Tenant, model: str) -> Endpoint:
    rows = Endpoint.objects.serving(tenant, Endpoint.Kind.EMBEDDING)
    found = rows.filter(Q(model=model) | Q(name=model)).first()
    if found is None:
        raise NotFound("There is no such embedding endpoint.")
    gateway.refresh()
    return found


def _enter(caller: Caller, user: str, endpoint_id: uuid.UUID, tokens: int) -> None:
    ledger.enter_embeddings(
        caller.tenant,
        end_user=end_user_of(caller.tenant, user) if user else None,
        api_key_id=caller.api_key_id,
        oauth_client_id=caller.oauth_client_id,
        endpoint_id=endpoint_id,
        usage=Usage(tokens, 0, estimated=True),
    )


def _base64(vector: list[float]) -> str:
    """As OpenAI packs them: 32-bit floats, little-endian."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
