"""What every web process counts of its turns."""

from __future__ import annotations

import time

from prometheus_client import Counter, Gauge, Histogram

TURNS = Counter("parley_turns_total", "Turns closed, by how they ended.", ["state", "finish_reason"])
RUNNING = Gauge("parley_turns_running", "Turns running.", multiprocess_mode="livesum")
SOCKETS = Gauge("parley_sockets_open", "WebSockets open.", multiprocess_mode="livesum")
FIRST_TOKEN_SECONDS = Histogram(
    "parley_turn_first_token_seconds",
    "Seconds from accepting a question to its first token.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20),
)
BETWEEN_TOKENS_SECONDS = Histogram(
    "parley_turn_between_tokens_seconds",
    "Seconds between two pieces of an answer, as its server sent them; of every eighth piece.",
    buckets=(0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 1, 3, 10),
)
QUEUE_SECONDS = Histogram(
    "parley_turn_queue_seconds",
    "Seconds that a turn waited for a slot at a model server.",
    buckets=(0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
)
TOKENS = Counter("parley_tokens_total", "Tokens of settled turns.", ["kind"])
TENANT_TURNS = Counter("parley_tenant_turns_total", "Turns closed, by tenant and how they ended.", ["tenant", "state"])
TENANT_TOKENS = Counter("parley_tenant_tokens_total", "Tokens of settled turns, by tenant.", ["tenant", "kind"])

# Counting each piece costs as much as a tenth of passing it on, and tells no more of how they are spread.
_COUNTED_PIECE = 8


class Pieces:
    """Of one answer."""

    __slots__ = ("_came", "_last")

    def __init__(self) -> None:
        self._came, self._last = 0, 0.0

    def came(self) -> None:
        self._came += 1
        place = self._came % _COUNTED_PIECE
        if place == 1:
            self._last = time.perf_counter()
        elif place == 2:
            BETWEEN_TOKENS_SECONDS.observe(time.perf_counter() - self._last)
