"""Tests an endpoint the only way that counts: by one small generation, or one embedding."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from django.core.cache import cache
from django.utils import timezone
from django_redis.exceptions import ConnectionInterrupted

from apps.inference.gateway import engine_endpoint
from apps.inference.models import Endpoint
from chatbot.errors import ParleyError
from chatbot.events import Usage
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Endpoint as EngineEndpoint
from chatbot.inference.wire import ChatRequest, Message

QUESTION = "Say in one sentence what a library is."
MAX_TOKENS = 48
REMEMBERED = 30 * 24 * 3600  # seconds


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What an endpoint did. Milliseconds since the request; `error` is the sentence of what went wrong, else empty.

    first_ms, tokens_per_second, words: of a chat endpoint. dimension: of an embedding endpoint.
    """

    total_ms: float
    error: str = ""
    first_ms: float | None = None
    tokens_per_second: float | None = None
    tokens_estimated: bool = False
    words: str = ""
    dimension: int | None = None


@dataclass(frozen=True, slots=True)
class Probed:
    """When an endpoint was last tested here, in ISO format, and how it went."""

    at: str
    ok: bool
    total_ms: float


async def probe(row: Endpoint) -> ProbeResult:
    """Ask the endpoint as a turn would, enabled or not, past the pool, so that nothing steps in for it."""
    client = Client()
    started = time.perf_counter()
    endpoint = engine_endpoint(row)
    try:
        if row.kind == Endpoint.Kind.EMBEDDING:
            vectors = await client.embed(endpoint, ["library"], input_type="query")
            return ProbeResult(total_ms=_ms(started), dimension=len(vectors[0]))
        return await _generate(client, endpoint, started)
    except ParleyError as error:
        return ProbeResult(total_ms=_ms(started), error=error.message)
    finally:
        await client.close()


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
