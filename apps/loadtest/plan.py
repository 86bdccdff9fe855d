"""What a load test was told to do: who asks by which door, how many, and when. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

DOORS = ("rest", "sse", "ws")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)
_NUMBER = re.compile(r"\d{1,7}(?:\.\d+)?", re.ASCII)


class BadPlan(ValueError):
    """What was asked for cannot be done; the message says why."""


@dataclass(frozen=True)
class Stage:
    """Within so many seconds the level moves evenly to this one: users at the same time, or conversations a second."""

    level: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """opens: conversations begin at the stages' rate, whoever still waits; else the stages say how many users there
    are, and each asks again only when it has its answer. leaves, stops and verifies are shares of the answers."""

    mix: dict[str, int]
    stages: Sequence[Stage]
    opens: bool
    think: float
    turns: int
    leaves: float
    stops: float
    verifies: float
    patience: float

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def peak(self) -> float:
        return max(stage.level for stage in self.stages)

    def level(self, at: float) -> float:
        """Users, or conversations a second, at that many seconds from the start."""
        before = 0.0
        for stage in self.stages:
            if at < stage.seconds:
                return before + (stage.level - before) * at / stage.seconds
            before, at = stage.level, at - stage.seconds
        return 0.0

    def arrivals(self) -> Iterator[float]:
        """The moments at which conversations begin: evenly, at the rate that holds then."""
        begun, before, owed = 0.0, 0.0, 0.0
        for stage in self.stages:
            total = owed + (before + stage.level) / 2 * stage.seconds
            for number in range(1, math.floor(total + 1e-9) + 1):
                yield begun + _reached(number - owed, before, (stage.level - before) / stage.seconds)
            begun, before, owed = begun + stage.seconds, stage.level, max(total - math.floor(total + 1e-9), 0.0)

    def doors(self) -> Iterator[str]:
        """A door for each user, in the mix's proportion from the beginning on."""
        given = dict.fromkeys(self.mix, 0)
        while True:
            door = min(self.mix, key=lambda name: (given[name] + 1) / self.mix[name])
            given[door] += 1
            yield door


def _reached(count: float, rate: float, slope: float) -> float:
    """The time at which so many have begun: the root of rate*t + slope*t²/2 = count, in a form that also does for a
    slope of nothing, or next to nothing."""
    return 2 * count / (rate + math.sqrt(max(rate * rate + 2 * slope * count, 0.0)))


def duration(text: str) -> float:
    """Seconds. Raises BadPlan for what is none, such as `5`."""
    if not (found := _DURATION.fullmatch(text.strip())):
        raise BadPlan(f"{text!r} is no time: write it as 500ms, 30s, 2m or 1h.")
    return float(found[1]) * _UNITS[found[2]]


def stages(texts: Sequence[str]) -> list[Stage]:
    """From `10:30s 100:60s`, or the same with commas."""
    made = []
    for part in chain.from_iterable(text.split(",") for text in texts):
        level, colon, time = part.strip().partition(":")
        if not colon or not _NUMBER.fullmatch(level):
            raise BadPlan(f"{part!r} is no stage: write it as 100:60s, which means to get to 100 within 60 seconds.")
        made.append(Stage(float(level), duration(time)))
        if not made[-1].seconds:
            raise BadPlan(f"{part!r} takes no time: give each stage at least some milliseconds.")
    if not any(stage.level for stage in made):
        raise BadPlan("Nobody would ask anything: give a stage a level above 0.")
    return made


def mix(text: str) -> dict[str, int]:
    """From `rest=1,sse=6,ws=3`."""
    shares: dict[str, int] = {}
    for part in text.split(","):
        door, _, share = (piece.strip() for piece in part.partition("="))
        if door not in DOORS or not re.fullmatch(r"\d{1,4}", share, re.ASCII) or door in shares:
            raise BadPlan(f"{part!r} is no part of a mix: write it as rest=1,sse=6,ws=3, each door once.")
        shares[door] = int(share)
    if not any(shares.values()):
        raise BadPlan("A mix needs a door with more than 0.")
    return {door: share for door, share in shares.items() if share}


def share(text: str) -> float:
    """From `0.1` or `10%`."""
    number = text.strip().removesuffix("%")
    if not _NUMBER.fullmatch(number) or not 0 <= (value := float(number) / (100 if "%" in text else 1)) <= 1:
        raise BadPlan(f"{text!r} is no share: write it as 0.1 or 10%.")
    return value
