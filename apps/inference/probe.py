"""Tests an endpoint the only way that counts, by one small question of its kind, and looks what stands there."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace

from django.conf import settings
from django.core.cache import cache
from django.utils import timezone
from django_redis.exceptions import ConnectionInterrupted

from apps.inference.diagnosis import advice, complaint
from apps.inference.gateway import engine_endpoint
from apps.inference.models import Endpoint
from chatbot.errors import ModelError, ParleyError
from chatbot.events import Usage
from chatbot.inference.client import Client
from chatbot.inference.discovery import Seen
from chatbot.inference.endpoint import Endpoint as EngineEndpoint
from chatbot.inference.wire import ChatRequest, Message

QUESTION = "Say in one sentence what a library is."
MAX_TOKENS = 48
RANKED = "What is a library?"
# The first answers it, the second does not.
TEXTS = ["A library is a place that lends books.", "The pump moves four litres of water."]
REMEMBERED = 30 * 24 * 3600  # seconds


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What an endpoint did. Milliseconds since the request; `error` is the sentence of what is wrong, else empty.

    first_ms, tokens_per_second, words: of a chat endpoint. dimension: of an embedding endpoint, as measured. scores: of
    a reranking endpoint, for a text that fits and one that does not.
    server, context_length: as the server tells of itself, where it does. advice: a sentence about what would be better
    though all works.
    """

    total_ms: float
    error: str = ""
    first_ms: float | None = None
    tokens_per_second: float | None = None
    tokens_estimated: bool = False
    words: str = ""
    dimension: int | None = None
    scores: tuple[float, ...] = ()
    server: str = ""
    context_length: int | None = None
    advice: str = ""

    def offers(self, row: Endpoint) -> dict[str, int]:
        """The fields of `row` in which the server says otherwise, with what it says."""
        if row.kind == Endpoint.Kind.EMBEDDING:
            return {"dimension": self.dimension} if self.dimension not in (None, row.dimension) else {}
        return {"context_length": self.context_length} if self.context_length not in (None, row.context_length) else {}


@dataclass(frozen=True, slots=True)
class Probed:
    """When an endpoint was last tested here, in ISO format, and how it went."""

    at: str
    ok: bool
    total_ms: float


async def probe(row: Endpoint) -> ProbeResult:
    """Ask the endpoint as a turn would, enabled or not, saved or not, past the pool, so that nothing steps in for it.

    Raises nothing: what is wrong stands in `error`.
    """
    client = Client(allowed=settings.PARLEY_PRIVATE_ENDPOINT_HOSTS)
    endpoint = engine_endpoint(row)
    failure: ParleyError | None = None
    started = time.perf_counter()
    try:
        try:
            result = await _ask(client, endpoint, started)
        except ParleyError as error:
            failure, result = error, ProbeResult(total_ms=_ms(started))
        seen = await _look(client, endpoint)
    finally:
        await client.close()
    result = _with_what_is_served(result, endpoint, seen)
    wrong = complaint(endpoint, failure, seen, result.dimension)
    return replace(result, error=wrong, advice="" if wrong else advice(endpoint, seen, result.scores))


async def _look(client: Client, endpoint: EngineEndpoint) -> Seen | None:
    try:
        return await client.look(endpoint)
    except ModelError:
        return None


def _with_what_is_served(result: ProbeResult, endpoint: EngineEndpoint, seen: Seen | None) -> ProbeResult:
    if seen is None or seen.served is None:
        return result
    model = seen.served.model(endpoint.model)
    return replace(
        result,
        server=seen.served.title,
        context_length=model.context_length if model else None,
    )


async def _ask(client: Client, endpoint: EngineEndpoint, started: float) -> ProbeResult:
    if endpoint.kind == "embedding":
        # Whatever its dimension: a wrong one is told with both numbers.
        vectors = await client.embed(replace(endpoint, dimension=None), ["library"], input_type="query")
        return ProbeResult(total_ms=_ms(started), dimension=len(vectors[0]))
    if endpoint.kind == "rerank":
        scores = await client.rerank(endpoint, RANKED, TEXTS)
        return ProbeResult(total_ms=_ms(started), scores=tuple(scores))
    return await _generate(client, endpoint, started)


async def _generate(client: Client, endpoint: EngineEndpoint, started: float) -> ProbeResult:
    first_ms: float | None = None
    words = ""
    pieces = 0
    usage: Usage | None = None
    request = ChatRequest((Message("user", QUESTION),), max_tokens=MAX_TOKENS)
    async for delta in client.chat(endpoint, request):
        if delta.text:
            first_ms = first_ms if first_ms is not None else _ms(started)
            words += delta.text
            pieces += 1
        usage = delta.usage or usage
    total_ms = _ms(started)
    tokens = usage.completion_tokens if usage else pieces
    writing = (total_ms - (first_ms or 0.0)) / 1000
    return ProbeResult(
        total_ms=total_ms,
        first_ms=first_ms,
        tokens_per_second=(tokens - 1) / writing if tokens > 1 and writing > 0 else None,
        tokens_estimated=usage is None,
        words=words.strip(),
    )


def _ms(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def remember(row: Endpoint, result: ProbeResult) -> None:
    """Keep the outcome for lists and the dashboard. It is lost with the cache, which harms nobody."""
    probed = Probed(at=timezone.now().isoformat(), ok=not result.error, total_ms=result.total_ms)
    try:
        cache.set(_key(row), asdict(probed), timeout=REMEMBERED)
    except ConnectionInterrupted:
        return


def last_probed(rows: list[Endpoint]) -> dict[str, Probed]:
    """The last outcome by endpoint id, of those that were tested."""
    try:
        found = cache.get_many([_key(row) for row in rows])
    except ConnectionInterrupted:
        return {}
    return {key.removeprefix(_PREFIX): Probed(**kept) for key, kept in found.items()}


_PREFIX = "endpoint-probe:"


def _key(row: Endpoint) -> str:
    return f"{_PREFIX}{row.pk}"
