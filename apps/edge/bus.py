"""Words between the processes of one Parley: what one publishes, every process that listens hears at once.

It wakes and keeps nothing: Redis' pub/sub forgets what nobody hears. So whoever subscribes looks at PostgreSQL, where
the truth is, now and then in any case.
"""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import Callable
from functools import cache
from typing import Any

import orjson
import structlog
from django.conf import settings
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from apps.edge.shared_state import was_cancelled

log = structlog.get_logger(__name__)

CHANNEL = "parley:bus"
ME = uuid.uuid4().hex  # this process
SECONDS = 1.0  # that connecting and publishing may take
QUIET_SECONDS = 5.0  # after which the connection is tried
BACKOFF = (0.1, 0.5, 1.0, 2.0)

# By topic; a message is whatever JSON was published.
Handler = Callable[[Any], None]
_handlers: dict[str, list[Handler]] = {}
_listeners: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}


def subscribe(topic: str, handler: Handler) -> None:
    """Have `handler` called with each message of this topic, in every event loop that listens."""
    _handlers.setdefault(topic, []).append(handler)


def listen() -> None:
    """Hear messages in this event loop from now on; again, it does nothing."""
    loop = asyncio.get_running_loop()
    task = _listeners.get(loop)
    if task is None or task.done():
        for ended in [other for other in _listeners if other.is_closed()]:
            del _listeners[ended]
        # In a context of its own: it outlives the request that it begins with.
        _listeners[loop] = loop.create_task(_listen(), context=contextvars.Context())


def publish(topic: str, message: Any) -> bool:
    """Tell every process, this one at once. False where Redis did not take it: the others find out later. Blocks."""
    _tell(topic, message)
    try:
        _publisher().publish(CHANNEL, orjson.dumps([ME, topic, message]))
    except (RedisError, OSError) as error:
        log.warning("bus.not_published", topic=topic, error=type(error).__name__)
        return False
    return True


@cache
def _publisher() -> Redis:
    return Redis.from_url(settings.REDIS_URL, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)


async def _listen() -> None:
    failures = 0
    while not was_cancelled():
        client = AsyncRedis.from_url(settings.REDIS_URL, socket_connect_timeout=SECONDS)
        try:
            async with client, client.pubsub() as subscription:
                await subscription.subscribe(CHANNEL)
                while not was_cancelled():
                    await _hear(subscription)
                    if failures:
                        log.info("bus.restored")
                    failures = 0
        except (RedisError, OSError, TimeoutError) as error:
            if not failures:
                log.warning("bus.lost", error=type(error).__name__)
        await asyncio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
        failures += 1


async def _hear(subscription: PubSub) -> None:
    """The next message, if there is one soon. Raises TimeoutError where Redis does not even answer a ping."""
    message = await subscription.get_message(timeout=QUIET_SECONDS)
    if message is None:
        async with asyncio.timeout(SECONDS):
            await subscription.ping()
            while (message := await subscription.get_message(timeout=SECONDS)) is None:
                pass
    if message["type"] == "message":
        _hand_out(message["data"])


def _hand_out(data: bytes) -> None:
    try:
        sender, topic, message = orjson.loads(data)
    except ValueError:  # not ours
        return
    if sender != ME:  # which has heard it already
        _tell(topic, message)


def _tell(topic: str, message: Any) -> None:
    for handler in _handlers.get(topic, ()):
        handler(message)
