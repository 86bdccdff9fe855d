"""Which of several servers takes a question: the less busy one of two, taken at random. No clock, no I/O.

Two choices make the longest queue exponentially shorter than one does, and unlike the least busy of all they do not
send everyone to the same server while what is known of it is old (M. Mitzenmacher, The Power of Two Choices in
Randomized Load Balancing, 2001).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Choice(Protocol):
    @property
    def tier(self) -> int: ...

    @property
    def busyness(self) -> float: ...


C = TypeVar("C", bound=Choice)


def lowest_tier(servers: Sequence[C]) -> list[C]:
    """Those of the lowest tier among them."""
    lowest = min((server.tier for server in servers), default=0)
    return [server for server in servers if server.tier == lowest]


def choose(servers: Sequence[C], random: Callable[[], float]) -> C | None:
    """One of those of the lowest tier, all of which can take a question; None if there are none. `random` gives numbers
    from 0 up to, not including, 1. Of two that are equally busy, either."""
    servers = lowest_tier(servers)
    if len(servers) < 2:
        return servers[0] if servers else None
    first = int(random() * len(servers))
    second = int(random() * (len(servers) - 1))
    one, other = servers[first], servers[second + (second >= first)]
    return one if one.busyness <= other.busyness else other
