"""Roll-ups: the ledger added up by day and by month, so that a year is quick to read. The ledger is right,
these repeat it."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from apps.tenants.scoping import TenantOwned


class Summed(TenantOwned):
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


class Rolled(Summed):
    """A span whose roll-ups repeat the ledger, with the sums of all of it. Without such a row it is read from less: a
    month from its days, a day from the ledger itself.

    A trigger takes the row away with whatever changes in the ledger between `starts` and `ends` (migration 0011), and
    one that was made in another time zone than the tenant's counts for nothing.
    """

    day = models.DateField()  # a month's first
    zone = models.CharField(max_length=64)
    starts = models.DateTimeField()
    ends = models.DateTimeField()  # the next one's start
    used = models.BooleanField()  # whether the ledger has anything there

    class Meta:
        abstract = True


class RolledDay(Rolled):
    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "day"], name="usage_rolled_once")]


class RolledMonth(Rolled):
    """All days of the month are rolled up, but for those before the tenant's first use."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "day"], name="usage_month_rolled_once")]


class Part(Summed):
    """Sums of one day, or of the month that it begins. What they are of is named by id alone, as it was when it was
    used; ids of what was deleted since stay, and mean nobody."""

    # Each table has an index with it.
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False)
    day = models.DateField()

    class Meta:
        abstract = True


class PartOfUse(Part):
    """Of all end users together, by one thing at a time: few rows, for every question that is not about people."""

    by = models.CharField(max_length=10)  # assistant, key, client, model or kind
    what_id = models.UUIDField(null=True)
    what = models.CharField(max_length=200, blank=True, default="")  # of a model or kind, which have no ids

    class Meta:
        abstract = True


class DailyUse(PartOfUse):
    class Meta:
        indexes = [models.Index(fields=["by", "day", "tenant"], name="usage_daily_by")]


class MonthlyUse(PartOfUse):
    class Meta:
        indexes = [models.Index(fields=["by", "day", "tenant"], name="usage_monthly_by")]


class PartOfUser(Part):
    """Of each end user, whatever they used: for who used most."""

    end_user_id = models.UUIDField(null=True)

    class Meta:
        abstract = True


def _of_users(span: str) -> list[models.Index]:
    """For those that used most in it, and for what each of them used in all."""
    tokens = F("prompt_tokens") + F("completion_tokens")
    return [
        models.Index("tenant", "day", tokens.desc(), name=f"usage_user_{span}_most"),
        models.Index(fields=["tenant", "end_user_id", "day"], name=f"usage_user_{span}_each"),
    ]


class DailyUser(PartOfUser):
    class Meta:
        indexes = _of_users("day")


class MonthlyUser(PartOfUser):
    class Meta:
        indexes = _of_users("month")


class DailyUsageByUser(Part):
    """Of each end user, by all things at once: for what one of them used. The other sums are made of these."""

    kind = models.CharField(max_length=10)
    assistant_id = models.UUIDField(null=True)
    api_key_id = models.UUIDField(null=True)
    oauth_client_id = models.UUIDField(null=True)
    model = models.CharField(max_length=200, blank=True, default="")
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
