"""What workers count of deliveries."""

from __future__ import annotations

from prometheus_client import Counter

DELIVERIES = Counter(
    "parley_webhook_deliveries_total", "Attempts to deliver an event: delivered, retrying or failed.", ["outcome"]
)
