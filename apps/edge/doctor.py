"""Redis, the cache, and the processes that the broker connects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis
from amqp.exceptions import AMQPError
from celery import Celery
from django.conf import settings
from django.core.cache import cache
from kombu.exceptions import OperationalError
from packaging.version import Version

from apps.edge import alive
from apps.edge.findings import Finding, fail, ok, warn
from apps.edge.queues import QUEUES

LEAST_REDIS = Version("6.2")
MOST_OF_MEMORY = 0.9
# Beat sends something every 20 seconds.
SILENT_SECONDS = 120.0
SECONDS = 3.0


def shared_state() -> Iterator[Finding]:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)
    try:
        info: dict[str, Any] = client.info()
    except redis.RedisError as error:
        yield fail("redis", str(error), "Check REDIS_URL, and that the server runs.")
        return
    finally:
        client.close()
    if Version(info["redis_version"]) < LEAST_REDIS:
        yield fail("redis", info["redis_version"], f"Upgrade to {LEAST_REDIS} or newer.")
    else:
        yield ok("redis", info["redis_version"])
    if info["maxmemory_policy"] != "noeviction":
        yield fail(
            "redis", f"evicts ({info['maxmemory_policy']})", "Set maxmemory-policy noeviction: this is no cache."
        )
    if not info["aof_enabled"]:
        yield warn("redis", "forgets on a restart", "Set appendonly yes, or queued work is lost with the process.")
    elif info["aof_last_write_status"] != "ok":
        yield fail("redis", "cannot write its append-only file", "Look at its log, and whether its disk is full.")
    if info["maxmemory"] and info["used_memory"] > MOST_OF_MEMORY * info["maxmemory"]:
        said = f"{info['used_memory'] / info['maxmemory']:.0%} of its memory is in use"
        yield warn("redis", said, "Raise maxmemory: a full one refuses new questions.")


def cache_server() -> Iterator[Finding]:
    try:
        cache.set("doctor", 1, timeout=10)
    except (redis.RedisError, OSError) as error:
        yield fail("cache", str(error), "Check CACHE_URL, and that the server runs.")
    else:
        yield ok("cache", "takes a value")


def worker() -> Iterator[Finding]:
    try:
        with Celery("doctor", broker=settings.CELERY_BROKER_URL) as app:
            replies = app.control.inspect(timeout=SECONDS).active_queues()
    except (OperationalError, redis.RedisError, AMQPError) as error:
        yield fail("worker", str(error), "Check CELERY_BROKER_URL, and that the broker runs.")
        return
    if not replies:
        yield warn("worker", "none answers", "Start one, or documents stay queued: python -m config.run worker")
        return
    served = {queue["name"] for queues in replies.values() for queue in queues}
    if missing := [name for name in QUEUES if name not in served]:
        listed = " ".join(missing)
        advice = f"Start one, or what is sent there stays: python -m config.run worker --queues {listed}"
        yield warn("worker", f"{len(replies)} answering, but none takes from {', '.join(missing)}", advice)
    else:
        yield ok("worker", f"{len(replies)} answering")


def beat() -> Iterator[Finding]:
    try:
        since = alive.seconds_since(alive.BEAT)
    except redis.RedisError:
        return  # shared_state() tells of it
    if since is not None and since < SILENT_SECONDS:
        yield ok("beat", f"worked {since:.0f} s ago")
    else:
        said = "shows no sign of life" if since is None else f"has sent nothing for {since / 60:.0f} minutes"
        yield warn("beat", said, "Start it, or what got lost is not made up for: python -m config.run beat")
