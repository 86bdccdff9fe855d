"""What the pool of model servers counts. /metrics has no login, so nobody learns there what endpoints are called."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from chatbot.inference.story import Story

CHANGES = Counter(
    "parley_endpoint_changes_total",
    "Transitions of model servers, by endpoint's id and kind: breaker.opened, breaker.half_open, breaker.closed,"
    " server.found, server.gone, limit.shrunk.",
    ["endpoint", "change"],
)
ATTEMPTS = Counter(
    "parley_model_attempts_total",
    "Times that a question was sent to a model server, by the endpoint's id and what came of it.",
    ["endpoint", "outcome"],
)
RETRIES = Counter("parley_model_retries_total", "Questions that were sent to a second model server.")
SERVERS = Gauge(
    "parley_model_servers",
    "Model servers, by the endpoint's id and the state of their breaker, added up over web processes.",
    ["endpoint", "state"],
    multiprocess_mode="livesum",
)
IN_FLIGHT = Gauge(
    "parley_model_in_flight", "Questions that are at a model server.", ["endpoint"], multiprocess_mode="livesum"
)
WAITING = Gauge(
    "parley_model_waiting",
    "Questions that wait for a slot of an endpoint; those that more than one may answer count for each.",
    ["endpoint"],
    multiprocess_mode="livesum",
)


def count(story: Story) -> None:
    """Count how a question found its answer."""
    for attempt in story.attempts:
        ATTEMPTS.labels(attempt.endpoint, attempt.error or "answered").inc()
    if len(story.attempts) > 1:
        RETRIES.inc()
