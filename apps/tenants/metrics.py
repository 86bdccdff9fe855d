"""What processes count of their connections to PostgreSQL, and the tenants that metrics name."""

from __future__ import annotations

from django.conf import settings
from prometheus_client import Gauge, Histogram

from apps.tenants.models import Tenant

DATABASE_WAIT_SECONDS = Histogram(
    "parley_database_wait_seconds",
    "Seconds that a question's unit of work waited for a connection to PostgreSQL.",
    buckets=(0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)
DATABASE_WAITING = Gauge(
    "parley_database_waiting",
    "Units of work in threads that wait for a connection to PostgreSQL now.",
    multiprocess_mode="livesum",
)
OTHERS = "(others)"  # no slug has brackets


def label_of(tenant: Tenant) -> str:
    """What metrics call a tenant. They name those of PARLEY_METRICS_TENANTS alone: each label stays in memory for good,
    and /metrics has no login."""
    return tenant.slug if tenant.slug in settings.PARLEY_METRICS_TENANTS else OTHERS
