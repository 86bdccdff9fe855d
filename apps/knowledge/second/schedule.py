"""Sends slices of the work on second indexes to the workers, one of a tenant at a time."""

from __future__ import annotations

import uuid

from django.utils import timezone

from apps.knowledge import slices
from apps.knowledge.models import SecondIndex
from apps.tenants import lookups

SLICE_TASK = "knowledge.build_index"


def send_due(tenant_id: uuid.UUID) -> bool:
    return slices.send_due(SecondIndex, SLICE_TASK, tenant_id)


def tenants_waiting() -> list[uuid.UUID]:
    """Those that have slices to send, in no particular order."""
    return [tenant_id for (tenant_id,) in lookups.call("tenants_with_due_indexes", timezone.now())]
