"""How many questions may be asked a second time: a tenth of them, so that a retry never multiplies an overload."""

from __future__ import annotations

from typing import Final

PART: Final = 0.1
MOST: Final = 100.0  # retries saved up by a busy system
FEW: Final = 10.0  # that a quiet one has
FEW_AGAIN: Final = 1.0  # a second, up to FEW: one question in a while must be able to fail over


class RetryBudget:
    """A token bucket that questions fill and retries empty; as Finagle's RetryBudget. Seconds of any clock."""

    def __init__(self) -> None:
        self._saved = FEW
        self._at = float("-inf")

    def asked(self, now: float) -> None:
        self._refill(now)
        self._saved = min(MOST, self._saved + PART)

    def take(self, now: float) -> bool:
        """Whether one may be asked again; if so it is counted."""
        self._refill(now)
        if self._saved < 1:
            return False
        self._saved -= 1
        return True

    def _refill(self, now: float) -> None:
        if self._saved < FEW:
            self._saved = min(FEW, self._saved + FEW_AGAIN * (now - self._at))
        self._at = now
