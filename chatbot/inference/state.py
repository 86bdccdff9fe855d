"""What the pool tells of its servers: a snapshot for the board, and each change as it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BreakerState = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class ServerLoad:
    """What a server says of itself on /metrics, None where it does not: questions in work and in its queue, and the
    part of its key-value cache in use, 0 to 1."""

    running: float | None = None
    waiting: float | None = None
    cache: float | None = None


@dataclass(frozen=True, slots=True)
class ServerState:
    """One address of one endpoint, as this process sees it. `address` is "" where the protocol finds the server itself,
    or its name was not resolved yet.

    Seconds: reopens_in (until the next probe), the percentiles, last_failure_ago. limit: questions at once from this
    process now; error_rate: 0 to 1 over the last 30 s; last_failure: a sentence.
    """

    endpoint: str
    address: str
    state: BreakerState
    reopens_in: float | None
    in_flight: int
    limit: float
    waiting: int
    tokens_per_second: float
    first_token_p50: float | None
    first_token_p95: float | None
    between_p50: float | None
    between_p95: float | None
    error_rate: float
    last_failure: str
    last_failure_ago: float | None
    load: ServerLoad | None


@dataclass(frozen=True, slots=True)
class Change:
    """what: breaker.opened, breaker.half_open, breaker.closed, server.found, server.gone or limit.shrunk. why: a
    sentence."""

    endpoint: str
    name: str
    address: str
    what: str
    why: str
