"""How often somebody may do something, counted for all processes together in Redis."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import math
import time
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple

from django.conf import settings

from apps.edge.errors import ServiceUnavailable
from apps.edge.ratelimit_headers import Limit
from apps.edge.shared_state import Script, reachable, redis
from chatbot.errors import RateLimited

# GCRA: one number, the time at which the last of what was taken will have been earned. Of a burst at once exactly as
# many pass as fit, and no window has an edge to crowd at. Redis' clock counts, so that processes need not agree on one.
# Takes so many of each bucket or, where one has not enough, of none; forced, it takes what there is. Answers for each
# bucket the seconds to wait, 0 for none, and those until it is full again. Source: https://brandur.org/rate-limiting
_TAKE = Script("""
    local time = redis.call('TIME')
    local now, cost, forced = time[1] + time[2] / 1000000, tonumber(ARGV[1]), ARGV[2] == '1'
    local earned, told, refused = {}, {}, false
    for n, key in ipairs(KEYS) do
        local burst, every = tonumber(ARGV[2 * n + 1]), tonumber(ARGV[2 * n + 2])
        local before = math.max(tonumber(redis.call('GET', key) or now), now)
        local wait = before - now - every * (burst - cost)
        earned[n] = before + every * cost
        if forced then
            earned[n], wait = math.min(earned[n], now + every * burst), 0
        end
        refused = refused or wait > 0
        told[2 * n - 1] = wait > 0 and string.format('%.6f', math.max(wait, 0.000001)) or '0'
        told[2 * n] = string.format('%.6f', before - now)
    end
    if not refused then
        for n, key in ipairs(KEYS) do
            redis.call('SET', key, string.format('%.6f', earned[n]), 'PX', math.ceil((earned[n] - now) * 1000) + 1)
            told[2 * n] = string.format('%.6f', earned[n] - now)
        end
    end
    return told
""")
# Somebody waits for each answer. Once Redis gave none nobody else is made to wait for a moment, but for one that tries.
SECONDS = 0.5
LATE_SECONDS = 0.05
AWAY_SECONDS = 1.0


class Rate(NamedTuple):
    """`burst` deeds at once, then one in `every` seconds."""

    burst: int
    every: float

    @property
    def window(self) -> float:
        """Seconds in which an empty bucket is full again."""
        return self.burst * self.every


class Bucket(NamedTuple):
    """What is taken from: a rate, its name, and for whom it is. who: kept from Redis by an HMAC."""

    name: str
    rate: Rate
    who: tuple[str, ...]

    @property
    def key(self) -> str:
        named = "\0".join(self.who).encode("utf-8", "surrogatepass")
        return f"rate:{self.name}:{hmac.digest(settings.PARLEY_KEY_PEPPER.encode(), named, 'sha256').hex()[:32]}"


class Verdict(NamedTuple):
    """limits: where each bucket stands now. reached: the one that has nothing left for longest, if any; nothing was
    taken then. wait: seconds until it has."""

    limits: list[Limit]
    reached: Limit | None = None
    wait: float = 0.0

    @property
    def refusal(self) -> RateLimited | None:
        if self.reached is None:
            return None
        # Up to the next tenth: whoever comes back by then is let in.
        return RateLimited(retry_after=max(0.1, math.ceil(self.wait * 10) / 10), limit=self.reached.told())


class _Away:
    """What this process knows of a Redis that gave no answer."""

    until = 0.0


async def take_all(buckets: Sequence[Bucket], *, cost: int = 1, forced: bool = False) -> Verdict:
    """Take so many of each bucket, or of none: one round trip, half a second at most.

    forced: take them in any case, as far as there are any. Raises ServiceUnavailable while Redis is away.
    """
    arguments = [part for bucket in buckets for part in bucket.rate]
    answer = await _ask([bucket.key for bucket in buckets], [cost, int(forced), *arguments])
    waits = [float(wait) for wait in answer[::2]]
    limits = [_limit(bucket, float(full)) for bucket, full in zip(buckets, answer[1::2], strict=True)]
    if not any(waits):
        return Verdict(limits)
    longest = max(range(len(waits)), key=waits.__getitem__)
    return Verdict(limits, limits[longest], waits[longest])


def _limit(bucket: Bucket, full: float) -> Limit:
    rate = bucket.rate
    # A millionth of a deed for what the clock's digits lose.
    left = int((rate.window - full) / rate.every + 1e-6)
    return Limit(bucket.name, rate.burst, rate.window, max(0, left), full)


async def take(rate: Rate, what: str, *who: str) -> None:
    """Count one deed of this kind.

    Raises RateLimited, or ServiceUnavailable while Redis is away.
    """
    if refusal := (await take_all([Bucket(what, rate, who)])).refusal:
        raise refusal


async def _ask(keys: list[str], arguments: list[Any]) -> list[str]:
    now = time.monotonic()
    if now < _Away.until:
        raise ServiceUnavailable(retry_after=5)
    if _Away.until:
        _Away.until = now + AWAY_SECONDS  # this one tries, and the others need not wait for it
    try:
        with reachable():
            answer = await _in_time(_TAKE(await redis(), *keys, *arguments, keys=len(keys)))
    except ServiceUnavailable:
        _Away.until = time.monotonic() + AWAY_SECONDS
        raise
    _Away.until = 0.0
    return answer


async def _in_time(asked: Coroutine[Any, Any, list[str]]) -> list[str]:
    """Raises TimeoutError after half a second; a second one is given where it was this process that had no time, so
    that the answer may have lain there unread."""
    task = asyncio.create_task(asked)
    try:
        for _ in range(2):
            due = time.monotonic() + SECONDS
            await asyncio.wait({task}, timeout=SECONDS)
            if task.done() or time.monotonic() - due < LATE_SECONDS:
                break
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()


def forget() -> None:
    """Believe again that Redis is there."""
    _Away.until = 0.0


def network_of(address: str) -> str:
    """Who is behind an address, as far as it tells: of IPv6 a household has a whole /64."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # a server on a Unix socket knows none
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.IPv6Network((int(ip), 64), strict=False))
    return str(ip)
