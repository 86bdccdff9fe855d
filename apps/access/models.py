"""What doors remember of requests."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from apps.tenants.models import EndUser
from apps.tenants.scoping import TenantOwned


class IdempotencyKey(TenantOwned):
    """A client's promise that a repeated request is the same one: the repeat gets the first one's turn, or its answer.

    end_user: whose key it is; none where the request concerns no end user, so that the key is the tenant's.
    """

    key = models.CharField(max_length=200)
    end_user = models.ForeignKey(EndUser, on_delete=models.CASCADE, null=True, related_name="+")
    route = models.CharField(max_length=100, default="", db_default="")
    fingerprint = models.CharField(max_length=64)
    # By its id alone: turns lie above this app.
    turn_id = models.UUIDField(null=True)
    # Of requests that open no turn; null while one is being done that takes several transactions.
    status = models.PositiveSmallIntegerField(null=True)
    body = models.TextField(default="", db_default="")
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        db_table = "conversations_idempotencykey"  # the release before keeps them there
        indexes = [models.Index(fields=["tenant", "created"], name="idempotency_key_age")]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "end_user", "key"], name="idempotency_key_alone", nulls_distinct=False
            )
        ]
