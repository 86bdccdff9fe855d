"""Which of several servers takes a question: the less busy one of two, taken at random. No clock, no I/O.

Two choices make the longest queue exponentially shorter than one does, and unlike the least busy of all they do not
send everyone to the same server while what is known of it is old (M. Mitzenmacher, The Power of Two Choices in
Randomized Load Balancing, 2001). They are drawn by their capacity, or a large server would be among the two too
seldom to get its part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Choice(Protocol):
    @property
    def tier(self) -> int: ...

    @property
    def capacity(self) -> float:
        """Above zero, in any unit that is the same for all."""

    @property
    def busyness(self) -> float: ...


C = TypeVar("C", bound=Choice)


def lowest_tier(servers: Sequence[C]) -> list[C]:
    """Those of the lowest tier among them."""
    tiers = [server.tier for server in servers]
    lowest = min(tiers, default=0)
    return [server for server, tier in zip(servers, tiers, strict=True) if tier == lowest]


def choose(servers: Sequence[C], random: Callable[[], float]) -> C | None:
    """One of those of the lowest tier, all of which can take a question; None if there are none. `random` gives numbers
    from 0 up to, not including, 1. Of two that are equally busy, either."""
    servers = lowest_tier(servers)
    if len(servers) < 2:
        return servers[0] if servers else None
    capacities = [server.capacity for server in servers]
    first = _draw(capacities, random)
    one, capacities[first] = servers[first], 0.0
    other = servers[_draw(capacities, random)]
    return one if one.busyness <= other.busyness else other


def _draw(capacities: Sequence[float], random: Callable[[], float]) -> int:
    point = random() * sum(capacities)
    last = 0
    for place, capacity in enumerate(capacities):
        if capacity:
            if point < capacity:
                return place
            point -= capacity
            last = place
    return last  # where rounding left a little
