"""Roll-ups: the ledger added up day by day, so that a year is quick to read. The ledger is right, these repeat it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from apps.tenants.scoping import TenantOwned


class RolledDay(TenantOwned):
    """A day whose roll-ups repeat the ledger. Without such a row a day is read from the ledger itself.

    A trigger takes the row away with whatever changes in the ledger between `starts` and `ends` (migration 0007), and
    one that was made in another time zone than the tenant's counts for nothing.
    """

    day = models.DateField()
    zone = models.CharField(max_length=64)
    starts = models.DateTimeField()
    ends = models.DateTimeField()  # the next day's start

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "day"], name="usage_rolled_once")]


class Rolled(TenantOwned):
    """Sums of one day. What they are of is named by id alone, as it was when it was used; ids of what was deleted since
    stay, and mean nobody."""

    # Each table has an index that begins with it.
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False)
    day = models.DateField()
    requests = models.PositiveIntegerField()
    once = models.PositiveIntegerField()
    delivered = models.PositiveIntegerField()
    loss = models.PositiveIntegerField()
    none = models.PositiveIntegerField()
    prompt_tokens = models.BigIntegerField()
    completion_tokens = models.BigIntegerField()
    pages = models.BigIntegerField(default=0, db_default=0)
    cost = models.DecimalField(max_digits=24, decimal_places=8)

    class Meta:
        abstract = True


class RolledOfUse(Rolled):
    kind = models.CharField(max_length=10)
    assistant_id = models.UUIDField(null=True)
    api_key_id = models.UUIDField(null=True)
    oauth_client_id = models.UUIDField(null=True)
    model = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        abstract = True


class DailyUsage(RolledOfUse):
    """Of all end users together: few rows, for every question that is not about people."""

    class Meta:
        indexes = [models.Index(fields=["tenant", "day"], name="usage_daily_day")]


class DailyUsageByUser(RolledOfUse):
    """The same for each end user: for what one of them used."""

    end_user_id = models.UUIDField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["tenant", "day"], name="usage_by_user_day"),
            models.Index(
                fields=["tenant", "end_user_id", "day"],
                name="usage_by_user_user",
                condition=Q(end_user_id__isnull=False),
            ),
        ]


class DailyUser(Rolled):
    """Of each end user, whatever they used: for who used most."""

    end_user_id = models.UUIDField(null=True)

    class Meta:
        indexes = [models.Index(fields=["tenant", "day"], name="usage_user_day")]
