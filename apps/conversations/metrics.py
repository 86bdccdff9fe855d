"""What every web process counts of its turns."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

TURNS = Counter("parley_turns_total", "Turns closed, by how they ended.", ["state", "finish_reason"])
RUNNING = Gauge("parley_turns_running", "Turns running.", multiprocess_mode="livesum")
FIRST_TOKEN_SECONDS = Histogram(
    "parley_turn_first_token_seconds",
    "Seconds from accepting a question to its first token.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20),
)
TOKENS = Counter("parley_tokens_total", "Tokens of settled turns.", ["kind"])
