"""How many questions a server gets at once from this process: as many as it takes, up to a limit. No clock, no I/O.

Additive increase, multiplicative decrease: the one linear rule under which senders that do not know of each other come
to equal shares (Chiu and Jain, Analysis of the Increase and Decrease Algorithms, 1989).
"""

from __future__ import annotations

from typing import Final

SHRINK: Final = 0.8  # by how much less after an overload: harder, and most of a server idles after each one


def part_of(limit: int, processes: int) -> int:
    """One process's part of what a server takes from all of them together.

    At least one: a process with none would refuse questions that it was given, or let them wait for a slot that never
    comes. So where there are more processes than slots, the server may get as many questions at once as there are
    processes; if that is too much it says so, which shrinks nothing below one either. What does not divide is left.
    """
    return max(1, limit // max(1, processes))


class Bulkhead:
    """Of one server. ceiling: this process's part of its limit, in questions; `limit` lies between 1 and it."""

    def __init__(self, ceiling: int) -> None:
        self.in_flight = 0
        self.limit = float(ceiling)
        self._ceiling = ceiling
        self._shrunk_at = float("-inf")

    @property
    def room(self) -> bool:
        return self.in_flight < int(self.limit)

    def enter(self) -> None:
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1

    def answered(self) -> None:
        """A question, still in flight, was answered: one more at once for every `limit` of them, unless half of the
        room lies idle, when an answer says nothing of what more would do."""
        if 2 * self.in_flight >= self.limit:
            self.limit = min(self._ceiling, self.limit + 1 / self.limit)

    def overloaded(self, began: float, now: float) -> bool:
        """The server was too busy for a question that began at `began`. Returns whether the limit shrank: not for
        questions from before it last did, so that one burst of refusals counts once. Same clock as ever."""
        if began < self._shrunk_at:
            return False
        self._shrunk_at = now
        before, self.limit = self.limit, max(1.0, self.limit * SHRINK)
        return int(self.limit) < int(before)

    def resize(self, ceiling: int) -> None:
        """Take another ceiling; what was learnt below the old one stays."""
        self.limit = float(ceiling) if self.limit >= self._ceiling else min(self.limit, float(ceiling))
        self._ceiling = ceiling
