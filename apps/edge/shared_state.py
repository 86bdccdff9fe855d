"""What web processes share in Redis (REDIS_URL): one client for each event loop, and Redis' failures in our words."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from django.conf import settings
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from apps.edge.errors import ServiceUnavailable

log = structlog.get_logger(__name__)

# Somebody waits for each answer, and a Redis that takes longer is as good as away.
SECONDS = 1.0
CONNECTIONS = 50

_clients: dict[asyncio.AbstractEventLoop, tuple[Redis, AsyncGenerator[Redis]]] = {}


async def redis() -> Redis:
    """This event loop's client. Use it within `reachable()`."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        holder = _hold(loop)
        _clients[loop] = await anext(holder), holder
    return _clients[loop][0]


async def _hold(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[Redis]:
    # A generator, because a loop that ends closes its generators.
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        settings.REDIS_URL,
        max_connections=CONNECTIONS,
        timeout=SECONDS,
        socket_timeout=SECONDS,
        socket_connect_timeout=SECONDS,
        # Once, at once: a connection that waited may have been ended meanwhile.
        retry=Retry(NoBackoff(), 1),
        decode_responses=True,
    )
    client = Redis(connection_pool=pool)
    try:
        yield client
    finally:
        del _clients[loop]
        await client.aclose()
        await pool.disconnect()


class Script:
    """What Redis does in one step, sent whole only to a Redis that does not know it yet: it is longer than what it is
    asked."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()  # by which Redis calls it

    async def __call__(self, client: Redis, *words: Any, keys: int = 0) -> Any:
        """keys: how many of the words are."""
        try:
            return await client.evalsha(self._sha, keys, *words)
        except NoScriptError:
            return await client.eval(self._text, keys, *words)


@contextmanager
def reachable() -> Iterator[None]:
    """Raises ServiceUnavailable where Redis does not answer."""
    try:
        yield
    except (RedisError, OSError) as error:
        log.warning("redis.unavailable", error=type(error).__name__)
        raise ServiceUnavailable(retry_after=5) from error


def was_cancelled() -> bool:
    """Whether somebody wants the running task to end.

    A loop that talks to Redis asks each time around: redis-py loses a cancellation that arrives just when it has
    written (asyncio.wait_for, before Python 3.12).
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
