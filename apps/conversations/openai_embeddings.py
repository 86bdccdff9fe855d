"""Vectors for clients that speak OpenAI's API, by the embedding endpoints of their tenant."""

from __future__ import annotations

import base64
import struct
import uuid
from collections.abc import Sequence
from typing import Any

from django.db.models import Q

from apps.access.authentication import Caller
from apps.conversations.charging import told_to
from apps.conversations.parties import end_user_of
from apps.edge.ratelimit_headers import Limit
from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.tenants.models import EndUser, Tenant
from apps.tenants.scoping import unit
from apps.usage import ledger, meter
from apps.usage.limits import ASKING, accounts_of_caller
from apps.usage.models import UsageRecord
from chatbot.errors import InvalidRequest, NotFound
from chatbot.events import Usage
from chatbot.inference.asker import Asker
from chatbot.inference.wire import InputType
from chatbot.quota import Amounts, cost_units
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
) -> tuple[dict[str, Any], Sequence[Limit]]:
    """OpenAI's answer to a call for embeddings, entered in the ledger, and what the caller's limits leave. Tokens are
    estimated: not every server counts.

    Raises NotFound where the tenant has no such model, InvalidRequest, or a ModelError, which costs nothing.
    """
    tenant = caller.tenant
    endpoint, end_user = await unit(_place, tenant, model, user)
    if dimensions not in {None, endpoint.dimension}:
        raise InvalidRequest(fields={"dimensions": f"This model's vectors have {endpoint.dimension} numbers."})
    tokens = sum(estimate(text) for text in input)
    bill, standing = await _reserve(caller, endpoint, end_user, tokens)
    charge = UsageRecord.Bill.NONE
    try:
        pool = await gateway.pool()
        asker = Asker(tenant=str(tenant.pk))
        vectors = await pool.embed(str(endpoint.pk), input, input_type=input_type, asker=asker)
        charge = UsageRecord.Bill.ONCE
    finally:
        usage = Usage(tokens, 0, estimated=True)
        used = await unit(ledger.settle_embeddings, tenant, bill, bill=charge, usage=usage, endpoint_id=endpoint.pk)
        await meter.settle(tenant, bill, used or Amounts())
    encode = _base64 if encoding_format == "base64" else list
    answer = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)} for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return answer, standing


def _place(tenant: Tenant, model: str, user: str) -> tuple[Endpoint, EndUser | None]:
    rows = Endpoint.objects.serving(tenant, Endpoint.Kind.EMBEDDING)
    found = rows.filter(Q(model=model) | Q(name=model)).first()
    if found is None:
        raise NotFound("There is no such embedding endpoint.")
    gateway.refresh()
    return found, end_user_of(tenant, user) if user else None


async def _reserve(
    caller: Caller, endpoint: Endpoint, end_user: EndUser | None, tokens: int
) -> tuple[uuid.UUID, Sequence[Limit]]:
    """The id of the ledger's row, with what the call may cost; and what the limits leave."""
    amounts = Amounts(requests=1, tokens=tokens, cost=cost_units(endpoint.prompt_price * tokens / 1_000_000))
    accounts = accounts_of_caller(caller, assistant_id=None, end_user=end_user, scope=ASKING)
    reservation = uuid.uuid4()
    reserved = await meter.reserve(caller.tenant, reservation, accounts, amounts, levels=told_to(caller))
    try:
        await unit(
            ledger.reserve_embeddings,
            caller.tenant,
            reservation=reservation,
            end_user=end_user,
            api_key_id=caller.api_key_id,
            oauth_client_id=caller.oauth_client_id,
            amounts=amounts,
            created=reserved.at,
        )
    except BaseException:
        await meter.settle(caller.tenant, reservation)
        raise
    return reservation, reserved.standing


def _base64(vector: list[float]) -> str:
    """As OpenAI packs them: 32-bit floats, little-endian."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
