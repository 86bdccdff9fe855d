"""The ledger: one row for each admitted turn, for each call for embeddings, and for each step of a document on its way
to being searchable; written when it opens and settled once when it closes."""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.tenants.scoping import TenantOwned
from apps.usage.alert_models import LookedAt, QuotaAlert
from apps.usage.limit_models import Grant, Plan, PlanLimit, Quota, TenantPlan
from apps.usage.rollup_models import (
    DailyUsageByUser,
    DailyUse,
    DailyUser,
    MonthlyUse,
    MonthlyUser,
    RolledDay,
    RolledMonth,
)

__all__ = [
    "DailyUsageByUser",
    "DailyUse",
    "DailyUser",
    "Grant",
    "LookedAt",
    "MonthlyUse",
    "MonthlyUser",
    "Plan",
    "PlanLimit",
    "Quota",
    "QuotaAlert",
    "RolledDay",
    "RolledMonth",
    "TenantPlan",
    "UsageRecord",
]


class UsageRecord(TenantOwned):
    """What one turn, one call for embeddings, or one step of a document cost.

    Turn, assistant and document are named by id alone: the ledger outlives them, and lies below all of them.
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

    class Kind(models.TextChoices):
        TURN = "turn", "Turn"
        EMBEDDINGS = "embeddings", "Embeddings"
        INGESTION = "ingestion", "Reading and embedding of documents"

    kind = models.CharField(max_length=10, choices=Kind, default=Kind.TURN, db_default=Kind.TURN)
    turn_id = models.UUIDField(unique=True, null=True)  # null where no turn is billed
    assistant_id = models.UUIDField(null=True)
    document_id = models.UUIDField(null=True)  # of an ingestion; or the second index that was built
    end_user = models.ForeignKey("tenants.EndUser", on_delete=models.SET_NULL, null=True, related_name="+")
    api_key = models.ForeignKey("tenants.ApiKey", on_delete=models.SET_NULL, null=True, related_name="+")
    oauth_client_id = models.UUIDField(null=True)
    endpoint = models.ForeignKey("inference.Endpoint", on_delete=models.SET_NULL, null=True, related_name="+")
    model = models.CharField(max_length=200, blank=True, default="", db_default="")  # as the endpoint called it then
    state = models.CharField(max_length=10, choices=State, default=State.RESERVED)
    bill = models.CharField(max_length=10, choices=Bill, blank=True, default="")
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    estimated = models.BooleanField("tokens estimated", default=False)
    pages = models.PositiveIntegerField(default=0, db_default=0)  # of a document that was read
    # At the endpoint's prices of that moment, in the currency of the installation.
    cost = models.DecimalField(max_digits=18, decimal_places=8, default=0, db_default=0)
    # What it may cost at most, while it runs; nothing afterwards.
    reserved_tokens = models.PositiveIntegerField(default=0, db_default=0)
    reserved_cost = models.DecimalField(max_digits=18, decimal_places=8, default=0, db_default=0)
    created = models.DateTimeField(default=timezone.now)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created",)
        indexes = [
            BrinIndex(fields=["created"], name="usage_created_brin"),
            BrinIndex(fields=["settled_at"], name="usage_settled_brin"),
            models.Index(fields=["tenant", "-created"], name="usage_tenant_created"),
            models.Index(fields=["-created"], name="usage_latest"),  # of all tenants, as operators list them
            models.Index(fields=["created"], condition=Q(state="reserved"), name="usage_unsettled"),
            models.Index(
                fields=["tenant", "created"],
                include=["pages", "prompt_tokens", "reserved_tokens", "state", "bill"],
                condition=Q(kind="ingestion"),
                name="usage_ingestion",
            ),
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
