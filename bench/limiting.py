"""What the rates of the edge add to a request or a frame: one round trip to the real Redis, one after the other."""

from __future__ import annotations

import time

import uvloop

from apps.access import limiting
from apps.edge.shared_state import redis
from bench.report import percentile
from tests.environment import Backends

TIMES = 10_000


def tell(servers: Backends) -> None:
    """Print microseconds, the middle one and the 99th of a hundred."""
    servers.empty_redis()
    took, bare = uvloop.run(_measure())
    print(f"\n{'limits, µs':16} {'p50':>8} {'p99':>8}")
    print(f"{'both buckets':16} {percentile(took, 50):8.0f} {percentile(took, 99):8.0f}")
    print(f"{'PING':16} {percentile(bare, 50):8.0f} {percentile(bare, 99):8.0f}")


async def _measure() -> tuple[list[float], list[float]]:
    took, bare = [], []
    client = await redis()
    for _ in range(TIMES):
        started = time.perf_counter()
        await limiting.count("192.0.2.1", "parley_some_key")
        counted = time.perf_counter()
        await client.ping()
        took.append((counted - started) * 1e6)
        bare.append((time.perf_counter() - counted) * 1e6)
    return took, bare
