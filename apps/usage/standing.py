"""Where somebody stands with their limits, as a client is told: of each kind the one with the least left."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from apps.edge import ratelimit_headers
from apps.usage.counters import Counter
from chatbot.quota import COST_UNITS

# Whose limits are told of: to a tenant's own programs all, to somebody in a browser only what concerns them alone.
EVERYBODY: Final = frozenset({"tenant", "assistant", "key", "client", "scope", "user", "visitor"})
END_USERS: Final = frozenset({"user", "visitor"})

UNITS: Final = {
    "requests": ratelimit_headers.REQUESTS,
    "tokens": "tokens",
    "cost": "cost-millionths",
    "turns": "concurrent-requests",
}
_MILLION: Final = 10**6


def told(counters: Sequence[Counter], standing: str, levels: Container[str]) -> list[ratelimit_headers.Limit]:
    """standing: as RESERVE told it of these counters, empty where it did not. What does not refuse is not told of."""
    numbers = [int(number) for number in standing.split()]
    tightest: dict[str, tuple[int, int, Counter]] = {}
    for counter, left, reset in zip(counters, numbers[::2], numbers[1::2], strict=False):
        limit = counter.limit
        known = tightest.get(limit.metric)
        if limit.hard and limit.account.level in levels and (known is None or left < known[0]):
            tightest[limit.metric] = left, reset, counter
    return [_told(counter, left, reset) for left, reset, counter in tightest.values()]


def _told(counter: Counter, left: int, reset: int) -> ratelimit_headers.Limit:
    limit = counter.limit
    small = COST_UNITS // _MILLION if limit.metric == "cost" else 1
    at_once = limit.window == "once"
    return ratelimit_headers.Limit(
        limit.name,
        quota=limit.most // small,
        window=None if at_once else counter.seconds,
        remaining=max(0, left) // small,
        reset=None if at_once else reset,
        unit=UNITS[limit.metric],
        scale=_MILLION if limit.metric == "cost" else 1,
    )
