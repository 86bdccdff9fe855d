"""Vectors of questions that were asked before, in the Redis for what may be evicted (CACHE_URL).

A question is known by a keyed digest, within its tenant and index: nobody can tell from Redis what was asked, nor find
out from how fast an answer comes what another tenant asked. Redis spares work here and is never waited for: where it is
slow or away, it is left alone for a while.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import structlog
from django.conf import settings
from pgvector import HalfVector
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from apps.knowledge.models import EmbeddingIndex

log = structlog.get_logger(__name__)

KEPT_SECONDS = 3600
PATIENCE_SECONDS = 0.05  # asking the model takes about as long
REST_SECONDS = 5.0  # after Redis was slow or away
CONNECTIONS = 20

_clients: dict[asyncio.AbstractEventLoop, tuple[Redis, AsyncGenerator[Redis]]] = {}
_resting_until = 0.0


async def vector_of(index: EmbeddingIndex, text: str) -> HalfVector | None:
    """The vector that this text had in this index, or None."""
    stored = await _ask(lambda redis: redis.get(_key(index, text)))
    try:
        vector = HalfVector.from_binary(stored or b"")
    except (ValueError, struct.error):  # another release's
        return None
    return vector if vector.dimensions() == index.dimension else None


async def keep(index: EmbeddingIndex, text: str, vector: HalfVector) -> None:
    await _ask(lambda redis: redis.set(_key(index, text), vector.to_binary(), ex=KEPT_SECONDS))


def is_resting() -> bool:
    """Whether Redis was slow or away a moment ago."""
    return time.monotonic() < _resting_until


def _key(index: EmbeddingIndex, text: str) -> str:
    key = hashlib.sha256(settings.SECRET_KEY.encode()).digest()
    model = f"{index.pk}\0{index.model}\0{index.dimension}\0{text}"
    digest = hashlib.blake2b(model.encode(errors="surrogatepass"), key=key, digest_size=24).hexdigest()
    return f"parley:question:{index.tenant_id}:{digest}"


async def _ask(ask: Callable[[Redis], Awaitable[Any]]) -> Any:
    global _resting_until  # noqa: PLW0603 - whether Redis answers is the process's to know
    if is_resting():
        return None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await ask(await _redis())
    except (RedisError, OSError, TimeoutError) as error:
        _resting_until = time.monotonic() + REST_SECONDS
        log.warning("vectors.not_remembered", error=type(error).__name__)
        return None


async def _redis() -> Redis:
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        holder = _hold(loop)
        _clients[loop] = await anext(holder), holder
    return _clients[loop][0]


async def _hold(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[Redis]:
    # A generator, because a loop that ends closes its generators.
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        str(settings.CACHES["default"]["LOCATION"]),
        max_connections=CONNECTIONS,
        timeout=PATIENCE_SECONDS,
        socket_timeout=1.0,
        socket_connect_timeout=PATIENCE_SECONDS,
    )
    client = Redis(connection_pool=pool)
    try:
        yield client
    finally:
        del _clients[loop]
        await client.aclose()
        await pool.disconnect()
