"""How the model servers of this process stand, for /metrics: looked at, since nobody counts it as it happens."""

from __future__ import annotations

from collections import Counter

from apps.inference import metrics
from chatbot.inference.state import ServerState

STATES = ("closed", "half-open", "open")
_told: set[str] = set()  # endpoints: a gauge keeps what it was told last, also of what is gone


def tell(states: list[ServerState]) -> None:
    """Set the gauges to this."""
    servers = Counter[tuple[str, str]]((one.endpoint, one.state) for one in states)
    in_flight: Counter[str] = Counter()
    for one in states:
        in_flight[one.endpoint] += one.in_flight
    waiting = {one.endpoint: one.waiting for one in states}  # each server of an endpoint has the same ones
    _told.update(in_flight)
    for endpoint in _told:
        for state in STATES:
            metrics.SERVERS.labels(endpoint, state).set(servers[endpoint, state])
        metrics.IN_FLIGHT.labels(endpoint).set(in_flight[endpoint])
        metrics.WAITING.labels(endpoint).set(waiting.get(endpoint, 0))
