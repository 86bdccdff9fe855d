"""Whether all live in the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import redis
from django.conf import settings
from django.db import DatabaseError, connection

from apps.edge.findings import Finding, ok, warn

# Answers survive clocks that are minutes apart; pauses, limits and what logs say of the order of things do not.
MOST_APART = 2.0
SECONDS = 3.0
ADVICE = "Let NTP keep the time on every machine: timedatectl set-ntp true."


def clocks(now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """now: of this machine, in seconds since 1970."""
    apart = False
    for whose, ask in (("PostgreSQL", _of_postgres), ("Redis", _of_redis)):
        began = now()
        try:
            theirs = ask()
        except (DatabaseError, redis.RedisError):
            continue
        ahead = (began + now()) / 2 - theirs
        if abs(ahead) > MOST_APART:
            apart = True
            yield warn("clock", f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {whose}'s", ADVICE)
    if not apart:
        yield ok("clock", "agrees with those of PostgreSQL and Redis")


def _of_postgres() -> float:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
            return float(cursor.fetchone()[0])
    finally:
        connection.close()


def _of_redis() -> float:
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=SECONDS, socket_connect_timeout=SECONDS) as client:
        seconds, micros = client.time()
    return float(seconds) + float(micros) / 1e6
