"""How much of the workers a tenant's documents get beside those of others. Its plan says so."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from apps.usage.limit_models import DOCUMENTS_AT_ONCE, WEIGHT, plan_of


@dataclass(frozen=True, slots=True)
class Share:
    """weight: how many of its documents are taken up while one is of a tenant of weight 1. at_once: workers are at so
    many of them at most."""

    weight: int = WEIGHT
    at_once: int = DOCUMENTS_AT_ONCE

    def room(self, in_line: int, held: int) -> int:
        """How many more may get into line. Workers take what stands there first, and each that is taken makes room for
        one at the end: so tenants are served by turns, in the proportion of what they have in line."""
        return max(0, min(self.weight - in_line, self.at_once - held - in_line))


def share_of(tenant_id: uuid.UUID) -> Share:
    """Call it in the tenant's scope."""
    plan = plan_of(tenant_id)
    return Share(plan.weight, plan.documents_at_once) if plan else Share()
