"""Line charts over time, as the numbers that an SVG is drawn with. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

WIDTH, HEIGHT = 400.0, 180.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 8.0, 8.0, 22.0


class Line(NamedTuple):
    """mark: the class that colours it. None is a gap."""

    name: str
    mark: str
    values: Sequence[float | None]


def chart(title: str, at: Sequence[int], lines: Sequence[Line]) -> dict[str, Any]:
    """at: seconds from the start."""
    most = max((value for line in lines for value in line.values if value is not None), default=0.0)
    step = nice(most / 4)
    top = step * max(math.ceil(most / step), 1)
    last = max(at, default=0) or 1

    def x(seconds: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * seconds / last, 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top, 1)

    column = (WIDTH - LEFT - RIGHT) / max(len(at), 1)
    return {
        "title": title,
        "legend": [(line.name, line.mark) for line in lines],
        "rows": [(y(value), f"{value:,.10g}") for value in _ticks(step, top)],
        "columns": [(x(value), f"{value:g} s") for value in _ticks(nice(last / 4), last)],
        "lines": [
            (line.mark, [f"{x(when)},{y(value)}" for when, value in piece])
            for line in lines
            for piece in _pieces(at, line.values)
        ],
        "hints": [
            (round(max(x(when) - column / 2, LEFT), 1), round(column, 1), _hint(when, lines, place))
            for place, when in enumerate(at)
        ],
    }


def nice(step: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 …"""
    if step <= 0:
        return 1.0
    scale = 10.0 ** math.floor(math.log10(step))
    return next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= step * (1 - 1e-9))


def _ticks(step: float, last: float) -> list[float]:
    return [step * number for number in range(math.floor(last / step + 1e-9) + 1)]


def _pieces(at: Sequence[int], values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    """What of a line lies between its gaps; a point alone is drawn as a line to itself."""
    for there, piece in groupby(zip(at, values, strict=True), key=lambda point: point[1] is not None):
        if there:
            points = [(when, value) for when, value in piece if value is not None]
            yield points if len(points) > 1 else points * 2


def _hint(when: int, lines: Sequence[Line], place: int) -> str:
    said = [f"{line.name} {value:,.1f}" for line in lines if (value := line.values[place]) is not None]
    return " · ".join([f"{when} s", *said])
