"""A second embedding index of a collection, built beside the one in use."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.tenants.models import Tenant
from apps.tenants.scoping import TenantOwned, TenantQuerySet


class SecondIndexQuerySet(TenantQuerySet["SecondIndex"]):
    def unfinished(self) -> SecondIndexQuerySet:
        return self.exclude(state__in=SecondIndex.AT_REST)

    def unclaimed(self, now: datetime.datetime) -> SecondIndexQuerySet:
        """Unfinished, and no worker holds them. Those of a tenant that is suspended wait until it is resumed."""
        # No join: see RunQuerySet.unclaimed().
        active = Tenant.objects.filter(is_active=True)
        return self.unfinished().filter(Q(lease_until=None) | Q(lease_until__lt=now), tenant__in=active)

    def due(self, now: datetime.datetime) -> SecondIndexQuerySet:
        """Unclaimed, and neither pausing nor already sent to the workers a moment ago."""
        return self.unclaimed(now).filter(next_slice_at__lte=now)

    def sent(self, now: datetime.datetime) -> SecondIndexQuerySet:
        """Sent to the workers a moment ago, and not claimed yet."""
        return self.unclaimed(now).filter(is_sent=True, next_slice_at__gt=now)


class SecondIndex(TenantOwned):
    """The index that a collection has beside the one in use: see second. Switching exchanges the two."""

    class State(models.TextChoices):
        BUILDING = "building", "Building"
        WAITING = "waiting", "Waiting for a quota"
        RETRYING = "retrying", "Retrying"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"
        DROPPING = "dropping", "Dropping"

    AT_REST: ClassVar = (State.READY, State.FAILED)  # no worker has anything to do

    collection = models.OneToOneField("knowledge.Collection", on_delete=models.CASCADE, related_name="second_index")
    index = models.ForeignKey("knowledge.EmbeddingIndex", on_delete=models.RESTRICT, related_name="+")
    state = models.CharField(max_length=10, choices=State, default=State.BUILDING)
    # It was the one in use: the collection has switched to the other.
    switched = models.BooleanField(default=False)
    # Passages that questions find, and those of them that have a vector in it, as far as was counted.
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    # Passages went live without a vector in it since its worker last looked for those.
    behind = models.BooleanField(default=False)
    failure_code = models.CharField(max_length=50, blank=True, default="")
    failure_message = models.CharField(max_length=500, blank=True, default="")
    # Slices that were begun in a row without getting any further, and in all. A message is good for one slice.
    attempts = models.PositiveSmallIntegerField(default=0)
    slices = models.PositiveIntegerField(default=0)
    is_sent = models.BooleanField(default=False)
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True, editable=False)
    # When the next slice is sent to the workers, unless one has it.
    next_slice_at = models.DateTimeField(default=timezone.now)
    created = models.DateTimeField(default=timezone.now, editable=False)
    updated = models.DateTimeField(auto_now=True)

    objects: ClassVar[Any] = SecondIndexQuerySet.as_manager()

    class Meta:
        verbose_name = "second index"
        verbose_name_plural = "second indexes"
        indexes = [
            models.Index(
                fields=["next_slice_at"], condition=~Q(state__in=["ready", "failed"]), name="second_index_unfinished"
            )
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["building", "waiting", "retrying", "ready", "failed", "dropping"]),
                name="second_index_state",
            ),
            models.CheckConstraint(
                condition=~Q(state="failed") | ~Q(failure_message=""), name="second_index_failure_says_why"
            ),
        ]

    def __str__(self) -> str:
        return str(self.index)
