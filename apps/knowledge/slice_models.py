"""Rows whose work is done in slices of some seconds, one after the other: see slices."""

from __future__ import annotations

import datetime
from typing import Self, TypeVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.tenants.models import Tenant
from apps.tenants.scoping import TenantOwned, TenantQuerySet

S = TypeVar("S", bound="Sliced")


class SlicedQuerySet(TenantQuerySet[S]):
    def unfinished(self) -> Self:
        """Those that a worker has something to do for."""
        raise NotImplementedError

    def unclaimed(self) -> Self:
        """Unfinished, and no worker holds them. Those of a tenant that is suspended wait until it is resumed."""
        # No join: a claim is an UPDATE, which would look at a joined row as it was before another one's claim.
        active = Tenant.objects.filter(is_active=True)
        return self.unfinished().filter(Q(lease_until=None) | Q(lease_until__lt=Now()), tenant__in=active)

    def held(self) -> Self:
        """Those that workers are at."""
        return self.unfinished().filter(lease_until__gte=Now())  # by PostgreSQL's clock, as lease.clock()

    def due(self, now: datetime.datetime) -> Self:
        """Unclaimed, and neither pausing nor already sent to the workers a moment ago."""
        return self.unclaimed().filter(next_slice_at__lte=now)

    def sent(self, now: datetime.datetime) -> Self:
        """Sent to the workers a moment ago, and not claimed yet."""
        return self.unclaimed().filter(is_sent=True, next_slice_at__gt=now)


class Sliced(TenantOwned):
    # Slices in a row that got no further.
    attempts = models.PositiveSmallIntegerField(default=0)
    # Slices that were begun. A message to the workers is for the next one, and for none after that.
    slices = models.PositiveIntegerField(default=0)
    # Whether there is such a message, or was: it may be lost.
    is_sent = models.BooleanField(default=False)
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True, editable=False)
    # When the next slice is sent to the workers, unless one has it.
    next_slice_at = models.DateTimeField(default=timezone.now)
    created = models.DateTimeField(default=timezone.now, editable=False)
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True
