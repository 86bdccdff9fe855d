"""Signs of life of processes that listen to nobody, beat and layouts: each leaves one in Redis when it has worked."""

from __future__ import annotations

import redis
import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

BEAT, LAYOUTS = "beat", "layouts"
KEPT_SECONDS = 86_400
SECONDS = 3.0


def note(name: str) -> None:
    """It works. Nobody fails for want of Redis here."""
    try:
        with _client() as client:
            client.set(_key(name), 1, ex=KEPT_SECONDS)
    except redis.RedisError as error:
        log.warning("alive.not_noted", process=name, error=type(error).__name__)


def seconds_since(name: str) -> float | None:
    """Since its last sign of life; None where there was none for a day. Raises RedisError."""
    with _client() as client:
        left = client.pttl(_key(name))
    return KEPT_SECONDS - left / 1000 if left >= 0 else None  # by the clock of Redis alone


def _client() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)


def _key(name: str) -> str:
    return f"alive:{name}"
