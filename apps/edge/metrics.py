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
