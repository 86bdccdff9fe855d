"""Says in one sentence what is wrong with an endpoint, from how it failed and from what stands at its address."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from apps.inference.models import ALLOWED_BY, Endpoint
from chatbot.addresses import REFUSED
from chatbot.errors import ModelFailed, ParleyError
from chatbot.inference.discovery import Seen
from chatbot.inference.endpoint import Endpoint as EngineEndpoint
from chatbot.inference.endpoint import Kind
from chatbot.inference.protocols.base import Served
from chatbot.inference.transport import UNREACHABLE

MUDDLED = "It put a text that has nothing to do with the question first, so the model may not be one for reranking."
LISTED = 5  # models named before it says how many more there are
_OWN_WIRE = {"tgi-generate": "tgi", "tei": "tei"}  # protocols other than OpenAI's, and the server that speaks them
_DEEDS: dict[Kind | None, str] = {"chat": "chat", "embedding": "embed", "rerank": "rerank"}
# How servers refuse what the model that they run cannot do: without such a route (404, 405), vLLM with 400, llama.cpp
# with 501, others with what is wrong with the fields.
_NO_SUCH_DEED = {400, 404, 405, 422, 501}


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
    return _no_such_deed(endpoint, seen, failure) or failure.message


def advice(endpoint: EngineEndpoint, seen: Seen | None, scores: Sequence[float] = ()) -> str:
    """What would be better about an endpoint that works, or "". scores: of a text that fits, and one that does not."""
    if scores and scores[0] <= scores[-1]:
        return MUDDLED
    served = seen.served if seen else None
    if served is None or served.protocol in (endpoint.protocol, "openai") or endpoint.protocol in ("hf", *_OWN_WIRE):
        return ""
    return f"This is {served.title}. It works, and the protocol “{_title(served.protocol)}” would name it."


def _title(protocol: str) -> str:
    return str(Endpoint.Protocol(protocol).label)


def _nothing_there(endpoint: EngineEndpoint, failure: ParleyError) -> str:
    if failure.message == UNREACHABLE and endpoint.base_url:
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
    only = seen.served.only if seen.served else None
    if seen.served is None or only in (None, endpoint.kind):
        return ""
    return f"This is {seen.served.title}, which {_DEEDS[only]}s and does not {_DEEDS[endpoint.kind]}."


def _wrong_protocol(endpoint: EngineEndpoint, seen: Seen) -> str:
    served = seen.served
    if served is None or _speaks(endpoint, served):
        return ""
    return f"Wrong protocol: this looks like {served.title}. Choose “{_title(served.protocol)}”."


def _speaks(endpoint: EngineEndpoint, served: Served) -> bool:
    """Whether the server understands the endpoint's protocol. It reranks by a single one."""
    if endpoint.kind == "rerank" and served.protocol == "tei":
        return endpoint.protocol in ("tei", "hf")
    return _OWN_WIRE.get(endpoint.protocol, served.protocol) == served.protocol


def _unknown_model(endpoint: EngineEndpoint, seen: Seen) -> str:
    served = seen.served
    if served is None or served.any_name or not served.models or served.model(endpoint.model):
        return ""
    return f"The server has no model “{endpoint.model}”; it has {_listed(served)}."


def _no_such_deed(endpoint: EngineEndpoint, seen: Seen, failure: ModelFailed) -> str:
    if endpoint.kind == "rerank" and seen.served and failure.status in _NO_SUCH_DEED:
        return f"This is {seen.served.title}, and what runs there does not rerank."
    return ""


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
