"""The ledger: one row for each admitted turn, written when it opens and settled once when it closes, and for each
answered call for embeddings."""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.tenants.scoping import TenantOwned


class UsageRecord(TenantOwned):
    """What one turn, or one call for embeddings, cost.

    Turn and assistant are named by id alone: the ledger outlives them, and lies below both.
    """

    class State(models.TextChoices):
        RESERVED = "reserved", "Reserved"
        SETTLED = "settled", "Settled"

    class Bill(models.TextChoices):
        """FAULTS.md's column "Bill"."""

        ONCE = "once", "Billed"
        DELIVERED = "delivered", "Billed as delivered"
        LOSS = "loss", "Platform loss"
        NONE = "none", "Not billed"

    turn_id = models.UUIDField(unique=True, null=True)  # null for a call for embeddings
    assistant_id = models.UUIDField(null=True)
    end_user = models.ForeignKey("tenants.EndUser", on_delete=models.SET_NULL, null=True, related_name="+")
    api_key = models.ForeignKey("tenants.ApiKey", on_delete=models.SET_NULL, null=True, related_name="+")
    endpoint = models.ForeignKey("inference.Endpoint", on_delete=models.SET_NULL, null=True, related_name="+")
    state = models.CharField(max_length=10, choices=State, default=State.RESERVED)
    bill = models.CharField(max_length=10, choices=Bill, blank=True, default="")
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    estimated = models.BooleanField("tokens estimated", default=False)
    created = models.DateTimeField(default=timezone.now)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created",)
        indexes = [
            BrinIndex(fields=["created"], name="usage_created_brin"),
            models.Index(fields=["tenant", "-created"], name="usage_tenant_created"),
            models.Index(fields=["created"], condition=Q(state="reserved"), name="usage_unsettled"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="reserved", bill="", settled_at=None)
                | Q(state="settled", bill__in=["once", "delivered", "loss", "none"], settled_at__isnull=False),
                name="usage_settled_whole",
            )
        ]

    def __str__(self) -> str:
        return f"{self.prompt_tokens} + {self.completion_tokens} tokens"
