"""Keeps questions away from a server that fails, until a probe of ours has been answered. No clock, no I/O.

After M. Nygard, Release It! (2007), with two differences: users' questions never try whether a server is well again,
and one that lets a question time out is suspect and probed before it has failed often enough to count as broken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from chatbot.inference.state import BreakerState

IN_A_ROW: Final = 5
WINDOW: Final = 30.0  # seconds
FEWEST: Final = 10  # outcomes within the window, below which half of them says nothing
REST: Final = 10.0  # seconds until the first probe, and as many more each time that it opens again
LONGEST_REST: Final = 300.0
JITTER: Final = 0.2  # of a rest, taken off at most: processes must not probe together


class Breaker:
    """Of one server. `random` gives numbers from 0 to 1; times are in seconds of any clock that only goes forward."""

    def __init__(self, random: Callable[[], float]) -> None:
        self.state: BreakerState = "closed"
        self.reopens_at = 0.0  # the next probe, while it is open
        self.suspect = False
        self.probing = False
        self._random = random
        self._in_a_row = 0
        self._outcomes: deque[tuple[float, bool]] = deque()  # when, and whether it failed
        self._failures = 0  # among them
        self._openings = 0
        self._closed_at = float("-inf")

    def succeeded(self, now: float) -> None:
        """A question was answered. While the breaker is not closed that was one from before, and closes nothing."""
        self._note(now, failed=False)
        self._in_a_row = 0
        self.suspect = False

    def failed(self, now: float, *, stuck: bool = False) -> bool:
        """A question failed by the server's fault; stuck: it timed out. Returns whether that opened the breaker."""
        self._note(now, failed=True)
        self._in_a_row += 1
        if self.state != "closed":
            return False
        half = len(self._outcomes) >= FEWEST and 2 * self._failures >= len(self._outcomes)
        if self._in_a_row >= IN_A_ROW or half:
            self._open(now)
            return True
        self.suspect = self.suspect or stuck
        return False

    def error_rate(self, now: float) -> float:
        """The part of the outcomes of the last 30 s that failed, 0 to 1; 0 without any."""
        self._forget(now)
        return self._failures / len(self._outcomes) if self._outcomes else 0.0

    def probe_due(self, now: float) -> bool:
        """Whether a probe should begin now: the rest is over, or a closed one is suspect. One probe at a time."""
        if self.probing:
            return False
        return self.suspect if self.state == "closed" else now >= self.reopens_at

    def begin_probe(self) -> None:
        self.probing = True
        if self.state == "open":
            self.state = "half-open"

    def end_probe(self, well: bool | None, now: float) -> None:
        """well: whether a real generation was answered; None if the probe was given up, which says nothing, so that
        it is due again."""
        self.probing = False
        if self.state == "half-open":
            if well:
                self.reset(now)
            elif well is None:
                self.state = "open"
            else:
                self._open(now)
        elif self.state == "closed" and well is not None:
            # Any answer meanwhile has cleared the suspicion already, and tells more than a probe that fails.
            if self.suspect and not well:
                self._open(now)
            self.suspect = False

    def reset(self, now: float) -> None:
        """Close it, and forget what failed; if it opens again within 30 s its rest is longer still."""
        self.state, self.suspect = "closed", False
        self._in_a_row = self._failures = 0
        self._outcomes.clear()
        self._closed_at = now

    def _open(self, now: float) -> None:
        relapse = self.state == "half-open" or now - self._closed_at <= WINDOW
        self._openings = self._openings + 1 if relapse else 1
        self.state, self.suspect = "open", False
        rest = min(REST * self._openings, LONGEST_REST)
        self.reopens_at = now + rest * (1 - JITTER * self._random())

    def _note(self, now: float, *, failed: bool) -> None:
        self._forget(now)
        self._outcomes.append((now, failed))
        self._failures += failed

    def _forget(self, now: float) -> None:
        while self._outcomes and self._outcomes[0][0] <= now - WINDOW:
            _, failed = self._outcomes.popleft()
            self._failures -= failed
