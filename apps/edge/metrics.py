"""What every web process counts of its requests."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUESTS = Counter("parley_http_requests_total", "HTTP requests answered.", ["method", "status"])
REQUEST_SECONDS = Histogram(
    "parley_http_request_seconds",
    "Seconds until a response began; a stream's body is not counted.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
TOO_MANY = Counter("parley_rate_limited_total", "Requests and frames refused by a rate of the edge.", ["limit"])
CACHE_LOOKUPS = Counter(
    "parley_cache_lookups_total",
    "Lookups in what is remembered, by what it is (keys, question_vectors) and result: hit, miss.",
    ["cache", "result"],
)
LOG_LINES_DROPPED = Counter("parley_log_lines_dropped_total", "Lines of the log that found no room and were dropped.")
LOOP_LAG_SECONDS = Histogram(
    "parley_event_loop_lag_seconds",
    "Seconds that the event loop was late, looked at each second.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)


def looked_up(cache: str, *, hit: bool) -> None:
    CACHE_LOOKUPS.labels(cache, "hit" if hit else "miss").inc()
