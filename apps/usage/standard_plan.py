"""The plan that a fresh installation begins with: generous, so that nobody honest meets it, and no single visitor can
use all there is."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from apps.tenants import lookups
from apps.usage.limit_models import LimitedUse, Plan, PlanLimit

NAME: Final = "Standard"
DESCRIPTION: Final = "For tenants without a plan of their own, from their first question on. Change it as you like."
_Level, _Metric, _Window = LimitedUse.Level, LimitedUse.Metric, LimitedUse.Window


def create_standard_plan() -> Plan | None:
    """Make it the default, with its limits. None where there are plans or tenants: what these may use is decided."""
    if Plan.objects.exists() or lookups.all_tenants():
        return None
    plan = Plan.objects.create(name=NAME, description=DESCRIPTION, is_default=True)
    PlanLimit.objects.bulk_create(PlanLimit(plan=plan, **limit) for limit in _limits())
    return plan


def _limits() -> list[dict[str, object]]:
    def limit(level: str, metric: str, window: str, amount: int, **more: object) -> dict[str, object]:
        return {"level": level, "metric": metric, "window": window, "amount": Decimal(amount), **more}

    return [
        limit(_Level.TENANT, _Metric.TURNS, _Window.ONCE, 500),
        # Nobody is refused for it, and operators hear of it in time.
        limit(_Level.TENANT, _Metric.TOKENS, _Window.MONTH, 1_000_000_000, hard=False),
        # A program that names no user asks as one user.
        limit(_Level.USER, _Metric.REQUESTS, _Window.MINUTE, 600, burst=200),
        limit(_Level.USER, _Metric.TURNS, _Window.ONCE, 100),
        limit(_Level.VISITOR, _Metric.REQUESTS, _Window.MINUTE, 60, burst=20),
        limit(_Level.VISITOR, _Metric.REQUESTS, _Window.DAY, 1_000),
        limit(_Level.VISITOR, _Metric.TURNS, _Window.ONCE, 5),
    ]
