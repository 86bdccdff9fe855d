"""How one question found its answer, for explain_turn: plain data that dataclasses.asdict() makes JSON of."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Considered:
    """A server that could have been asked, or an endpoint none of whose servers could.

    verdict: "chosen", or the reason why not: "breaker open", "breaker half-open", "full", "draining", "higher tier",
    "busier", "not drawn" (of two choices), "already failed"; of endpoints "cannot continue", "not for this", "unknown".
    """

    endpoint: str
    name: str
    address: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """Milliseconds since chat() was called. error: the code of what went wrong, "cancelled" where whoever asked
    left before the first token, "" where it answered; message: its sentence."""

    endpoint: str
    name: str
    address: str
    began_ms: float
    first_token_ms: float | None
    error: str
    message: str


@dataclass(slots=True)
class Story:
    """considered holds the servers as each attempt chose among them, one attempt after the other. queued_ms: the wait
    for a slot, of all attempts together. deadline_left_ms: what was left of the time to the first token when that came,
    or when the last attempt failed. woken_ms: the wait for a server that was asleep."""

    considered: list[Considered] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    queued_ms: float = 0.0
    woken_ms: float = 0.0
    deadline_left_ms: float | None = None
