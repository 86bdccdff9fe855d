"""What became of each question, and how long it took: counted as it happens, added up in the end. No I/O."""

from __future__ import annotations

import statistics
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

PERCENTILES = (50, 90, 95, 99)
COLUMNS = 120  # of a time series: as many as can be told apart


def _times() -> array[float]:
    return array("d")


@dataclass
class Door:
    """Of one door. Every question started has ended in one of these ways: finished, refused and failed (by code),
    broken (by what was wrong), cut (the test's own end came first)."""

    started: int = 0
    finished: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    stopped: int = 0  # of the finished ones, on purpose
    came_back: int = 0  # to an answer, over another connection
    compared: int = 0  # with what is stored
    differing: list[str] = field(default_factory=list)  # of the compared ones, the turns that are stored otherwise
    tokens: int = 0
    first_ms: array[float] = field(default_factory=_times)  # until the first token
    gap_ms: array[float] = field(default_factory=_times)  # from one token's event to the next
    whole_ms: array[float] = field(default_factory=_times)  # until the end


@dataclass
class Second:
    """What happened in it."""

    asked: int = 0
    finished: int = 0
    refused: int = 0
    wrong: int = 0  # failed, broken, or stored otherwise than it was told
    tokens: int = 0
    users: int = 0
    first_ms: array[float] = field(default_factory=_times)


@dataclass
class Tally:
    """begun: when the test began, by the clock that all times here are told by."""

    begun: float
    doors: dict[str, Door] = field(default_factory=lambda: defaultdict(Door))
    seconds: dict[int, Second] = field(default_factory=lambda: defaultdict(Second))
    late_ms: array[float] = field(default_factory=_times)  # the generator itself, behind its own clock
    unbegun: int = 0  # conversations that had to begin when as many as there may be were going on

    def at(self, now: float) -> Second:
        return self.seconds[max(int(now - self.begun), 0)]

    def asked(self, door: str, now: float) -> None:
        self.doors[door].started += 1
        self.at(now).asked += 1

    def finished(self, door: str, asked: float, now: float, tokens_at: Sequence[float], tokens: int) -> None:
        """tokens_at: when events with tokens came; tokens: how many the target counted."""
        place, second = self.doors[door], self.at(now)
        place.finished += 1
        place.tokens += tokens
        second.finished += 1
        second.tokens += tokens
        place.whole_ms.append((now - asked) * 1000)
        if tokens_at:
            first = (tokens_at[0] - asked) * 1000
            place.first_ms.append(first)
            self.at(tokens_at[0]).first_ms.append(first)
            place.gap_ms.extend((later - earlier) * 1000 for earlier, later in pairwise(tokens_at))

    def refused(self, door: str, now: float, code: str) -> None:
        self.doors[door].refused[code] += 1
        self.at(now).refused += 1

    def failed(self, door: str, now: float, code: str) -> None:
        self.doors[door].failed[code] += 1
        self.at(now).wrong += 1

    def compared(self, door: str, now: float, turn: str, *, alike: bool) -> None:
        self.doors[door].compared += 1
        if not alike:
            self.doors[door].differing.append(turn)
            self.at(now).wrong += 1

    def broken(self, door: str, now: float, reason: str) -> None:
        self.doors[door].broken[reason] += 1
        self.at(now).wrong += 1


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """p50, p90, p95 and p99; between two values in proportion. None of nothing."""
    if not values:
        return None
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else list(values) * 99
    return {f"p{percent}": cuts[percent - 1] for percent in PERCENTILES}


def figures(tally: Tally, seconds: float) -> dict[str, Any]:
    """All of it as JSON takes it. seconds: how long questions were asked."""
    doors = {name: _door(door) for name, door in sorted(tally.doors.items())}
    return {
        "seconds": seconds,
        "doors": doors,
        "all": _sum(tally.doors, seconds),
        "series": series(tally),
        "generator": {"late_ms": percentiles(tally.late_ms), "unbegun": tally.unbegun},
    }


def _door(door: Door) -> dict[str, Any]:
    counted = {
        name: dict(value) if isinstance(value, Counter) else value
        for name, value in vars(door).items()
        if not isinstance(value, array)
    }
    return counted | {name: percentiles(getattr(door, name)) for name in ("first_ms", "gap_ms", "whole_ms")}


def _sum(doors: Mapping[str, Door], seconds: float) -> dict[str, Any]:
    counts = {
        name: sum(getattr(door, name) for door in doors.values())
        for name in ("started", "finished", "cut", "stopped", "came_back", "compared", "tokens")
    }
    differing = [turn for door in doors.values() for turn in door.differing]
    codes = {
        name: dict(sum((getattr(door, name) for door in doors.values()), Counter[str]()))
        for name in ("refused", "failed", "broken")
    }
    rates = {
        f"{name}_a_second": counts[name] / seconds if seconds else 0.0 for name in ("started", "finished", "tokens")
    }
    return counts | codes | rates | {"differing": differing}


def series(tally: Tally) -> list[dict[str, Any]]:
    """What happened over time, in columns of equal width, each with its rates a second."""
    last = max(tally.seconds, default=-1)
    width = max(1, -(-(last + 1) // COLUMNS))
    return [_column(tally, start, width) for start in range(0, last + 1, width)]


def _column(tally: Tally, start: int, width: int) -> dict[str, Any]:
    inside = [tally.seconds[second] for second in range(start, start + width) if second in tally.seconds]
    rates = {
        name: sum(getattr(one, name) for one in inside) / width
        for name in ("asked", "finished", "refused", "wrong", "tokens")
    }
    first: list[float] = [value for one in inside for value in one.first_ms]
    return {
        "at": start,
        "users": max((one.users for one in inside), default=0),
        **rates,
        "first_ms": percentiles(first),
    }
