"""Says in one sentence what is wrong with an endpoint, from how it failed and from what stands at its address."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from apps.inference.models import ALLOWED_BY, Endpoint
from chatbot.addresses import REFUSED
from chatbot.errors import ModelFailed, ModelUnavailable, ParleyError
from chatbot.inference.discovery import Seen
from chatbot.inference.endpoint import Endpoint as EngineEndpoint
from chatbot.inference.protocols.base import Served

LISTED = 5  # models named before it says how many more there are
_OWN_WIRE = {"tgi-generate": "tgi", "tei": "tei"}  # protocols other than OpenAI's, and the server that speaks them


def complaint(endpoint: EngineEndpoint, failure: ParleyError | None, seen: Seen | None, dimension: int | None) -> str:
    """The sentence, or "" where all is well. `failure` is how a real request ended, None where it was answered;
    `seen` is None where nobody told anything; `dimension` is that of the vectors that came."""
    if failure is None:
        return _misfit(endpoint, seen, dimension)
    if failure.message == REFUSED:
        return f"{REFUSED} {ALLOWED_BY}"
    if seen is None:
        return _nothing_there(endpoint, failure)
    if not isinstance(failure, ModelFailed):
        return failure.message  # busy, slow, asleep: it speaks our language
    for reason in _REASONS:
        if said := reason(endpoint, seen):
            return said
    return failure.message


def advice(endpoint: EngineEndpoint, seen: Seen | None) -> str:
    """What would be better about an endpoint that works, or ""."""
    served = seen.served if seen else None
    if served is None or served.protocol in (endpoint.protocol, "openai") or endpoint.protocol in ("hf", *_OWN_WIRE):
        return ""
    return f"This is {served.title}. It works, and the protocol “{_title(served.protocol)}” would name it."


def _title(protocol: str) -> str:
    return str(Endpoint.Protocol(protocol).label)


def _nothing_there(endpoint: EngineEndpoint, failure: ParleyError) -> str:
    if isinstance(failure, ModelUnavailable) and endpoint.base_url:
        return f"Nothing answers at {endpoint.base_url}: the model server cannot be reached."
    return failure.message


def _misfit(endpoint: EngineEndpoint, seen: Seen | None, dimension: int | None) -> str:
    """Of an endpoint that answered: what would go wrong later."""
    if dimension and endpoint.dimension and dimension != endpoint.dimension:
        return f"The server's vectors have {dimension} dimensions where {endpoint.dimension} are set here."
    model = seen.served.model(endpoint.model) if seen and seen.served else None
    longest = model.context_length if model else None
    if endpoint.kind == "chat" and longest and endpoint.context_length > longest:
        return f"The context length is {endpoint.context_length} here, but the server takes {longest} tokens."
    return ""


def _key_refused(endpoint: EngineEndpoint, seen: Seen) -> str:
    if not seen.key_refused:
        return ""
    if not endpoint.api_key:
        return "The model server asks for a key, and none is set."
    return "The model server does not accept our key."


def _no_model_server(endpoint: EngineEndpoint, seen: Seen) -> str:
    if seen.served:
        return ""
    where = endpoint.base_url or "Hugging Face"
    return f"What answers at {where} is no model server that we know: it gave {seen.what}."


def _wrong_deed(endpoint: EngineEndpoint, seen: Seen) -> str:
    if seen.served and seen.served.embeds_only and endpoint.kind == "chat":
        return f"This is {seen.served.title}, which embeds and does not chat."
    return ""


def _wrong_protocol(endpoint: EngineEndpoint, seen: Seen) -> str:
    served = seen.served
    if served is None or _OWN_WIRE.get(endpoint.protocol, served.protocol) == served.protocol:
        return ""
    return f"Wrong protocol: this looks like {served.title}. Choose “{_title(served.protocol)}”."


def _unknown_model(endpoint: EngineEndpoint, seen: Seen) -> str:
    served = seen.served
    if served is None or served.any_name or not served.models or served.model(endpoint.model):
        return ""
    return f"The server has no model “{endpoint.model}”; it has {_listed(served)}."


def _listed(served: Served) -> str:
    names: Sequence[str] = [model.name for model in served.models]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


# The first that has something to say is the reason.
_REASONS: tuple[Callable[[EngineEndpoint, Seen], str], ...] = (
    _key_refused,
    _no_model_server,
    _wrong_deed,
    _wrong_protocol,
    _unknown_model,
)
