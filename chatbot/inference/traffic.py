"""What answers show of a server: time to the first token and between tokens, tokens a second, time in its slots."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Self

from chatbot.errors import ParleyError

KEPT: Final = 256  # of the latest times: enough for a p95, and soon forgotten
RATE_WINDOW: Final = 5.0  # seconds over which tokens are counted
CHARACTERS_PER_TOKEN: Final = 4  # of English, about: counting properly would cost as much as reading
NEWS: Final = 0.1  # of the average that the latest is


class Traffic:
    """Of one server. Times are in seconds."""

    def __init__(self) -> None:
        self.first: deque[float] = deque(maxlen=KEPT)
        self.between: deque[float] = deque(maxlen=KEPT)
        self.hold: float | None = None  # how long a question keeps its slot, on average
        self.characters = 0
        self._counted_from = float("-inf")
        self._rate = 0.0

    def held(self, seconds: float) -> None:
        self.hold = seconds if self.hold is None else self.hold + NEWS * (seconds - self.hold)

    def tokens_per_second(self, now: float) -> float:
        """Over the last seconds, of all streams; estimated from their characters."""
        self.count(now)
        return self._rate

    def count(self, now: float) -> None:
        """Begin a new window where the last is over."""
        passed = now - self._counted_from
        if passed >= RATE_WINDOW:
            # After a pause longer than two windows nobody knows when in it the characters came: it was quiet.
            self._rate = self.characters / CHARACTERS_PER_TOKEN / passed if passed < 2 * RATE_WINDOW else 0.0
            self.characters, self._counted_from = 0, now


class Pulse:
    """One stream's: it spans the stream, and is beaten once a read, which brings as many tokens as came together.

    error: what ended the stream, None where nothing did. begun: whether anything came.
    """

    __slots__ = ("_began", "_last", "_traffic", "error")

    def __init__(self, traffic: Traffic, began: float) -> None:
        self.error: ParleyError | None = None
        self._traffic = traffic
        self._began = began
        self._last: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ParleyError):
            self.error = error

    @property
    def begun(self) -> bool:
        return self._last is not None

    def beat(self, now: float, characters: int) -> None:
        # For every read of every stream: 0.2 microseconds.
        traffic = self._traffic
        if self._last is None:
            traffic.first.append(now - self._began)
            traffic.count(now)
        else:
            traffic.between.append(now - self._last)
        traffic.characters += characters
        self._last = now


def percentile(times: Iterable[float], percent: int) -> float | None:
    """None of nothing."""
    ordered = sorted(times)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] if ordered else None
