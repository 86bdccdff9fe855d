"""What processes count of the limits."""

from __future__ import annotations

from prometheus_client import Counter

from apps.tenants.metrics import label_of
from apps.tenants.models import Tenant
from chatbot.quota import Limit

REFUSED = Counter(
    "parley_quota_refusals_total",
    "Questions, documents and work on documents that a limit refused, by whose it is, what it counts and how long.",
    ["level", "metric", "window"],
)
TENANT_REFUSED = Counter("parley_tenant_quota_refusals_total", "The same by tenant.", ["tenant"])


def refused(tenant: Tenant, limit: Limit) -> None:
    """Count that a limit refused something."""
    REFUSED.labels(limit.account.level, limit.metric, limit.window).inc()
    TENANT_REFUSED.labels(label_of(tenant)).inc()
