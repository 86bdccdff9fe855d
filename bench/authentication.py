"""What it costs to find out who asks: the whole of `authenticate`, on the real servers, warm and cold.

Warm is the rule: this process looked the key up within the last two seconds. Cold is each key's first question, and its
next one after that: in one transaction a function that tells whose the key is, and the query that reads its row.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import uvloop

from apps.access import authentication
from apps.tenants.scoping import platform_unit
from bench.report import percentile
from tests import factories
from tests.environment import Backends

KEYS = 200
ROUNDS = 5
WARM = 20_000


def tell(servers: Backends) -> None:
    """Print microseconds, the middle one and the 99th of a hundred, of one call after another."""
    tenant = factories.make_tenant("authentication")
    texts = [factories.make_key(tenant=tenant) for _ in range(KEYS)]
    servers.superuser.execute("VACUUM ANALYZE")
    print(f"\n{'authenticate, µs':16} {'p50':>8} {'p99':>8}")
    for name, took in uvloop.run(_measure(texts)).items():
        print(f"{name:16} {percentile(took, 50):8.0f} {percentile(took, 99):8.0f}")


async def _measure(texts: Sequence[str]) -> dict[str, list[float]]:
    async def cold(text: str) -> None:
        authentication.forget(None)
        await authentication.authenticate(text)

    for text in texts:  # connections, prepared statements, and that each key was used
        await cold(text)
    every = [text for _ in range(ROUNDS) for text in texts]
    cold_us = [await _timed(cold, text) for text in every]
    hop_us = [await _timed(platform_unit, _nothing) for _ in every]
    await authentication.authenticate(texts[0])
    warm_us = []
    for n in range(WARM):
        if n % 500 == 0:  # before what is remembered ages
            await cold(texts[0])
        warm_us.append(await _timed(authentication.authenticate, texts[0]))
    return {"warm": warm_us, "cold": cold_us, "an empty unit": hop_us}


async def _timed(call: Callable[..., Awaitable[object]], *arguments: object) -> float:
    started = time.perf_counter()
    await call(*arguments)
    return (time.perf_counter() - started) * 1e6


def _nothing() -> None:
    """What a unit costs before it asks anything: a thread, a connection, a transaction."""
