"""What the pool of model servers counts."""

from __future__ import annotations

from prometheus_client import Counter

CHANGES = Counter(
    "parley_endpoint_changes_total",
    "Transitions of model servers, by endpoint's id and kind: breaker.opened, breaker.half_open, breaker.closed,"
    " server.found, server.gone, limit.shrunk.",
    ["endpoint", "change"],
)
