"""What was told of limits, so that it is told once."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.tenants.scoping import TenantOwned
from apps.usage.limit_models import LimitedUse
from apps.usage.refusals import WHEN, shown, what, whose
from chatbot.quota import COST_UNITS, KEPT


class QuotaAlert(TenantOwned):
    """80% or all of a limit was used in one of its windows. The row is the promise to tell of it, and that it was told.

    amount is part of what makes a row one: a limit that was raised is another one to tell of.
    """

    class Threshold(models.IntegerChoices):
        MOST = 80, "80%"
        ALL = 100, "All of it"

    level = models.CharField("of whom", max_length=20)
    subject = models.CharField(max_length=200, blank=True, default="")  # as counters name it
    known_as = models.CharField("which one", max_length=200, blank=True, default="")  # as its limits do
    metric = models.CharField("of what", max_length=20)
    window = models.CharField("in which time", max_length=20)
    begins = models.DateTimeField()
    ends = models.DateTimeField()
    threshold = models.PositiveSmallIntegerField("how much", choices=Threshold)
    # Both as chatbot.quota counts: whole numbers, that of money beyond what PostgreSQL's integers hold.
    amount = models.DecimalField(max_digits=30, decimal_places=0)
    used = models.DecimalField(max_digits=30, decimal_places=0)
    hard = models.BooleanField("refuses more")
    created = models.DateTimeField("when", default=timezone.now)
    # Where more was passed at one look, only the most of it is told; the rest is known.
    told = models.BooleanField(default=True)
    # When to mail it and to tell the operators of it, for the first time or again; null: done, or not to be done.
    mail_at = models.DateTimeField(null=True, blank=True)
    operators_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "limit reached"
        verbose_name_plural = "limits reached"
        ordering = ("-created",)
        indexes = [
            models.Index(fields=["tenant", "-created", "-id"], name="quota_alert_of_tenant"),
            models.Index(fields=["tenant", "ends"], name="quota_alert_ends"),
            models.Index(fields=["mail_at"], condition=Q(mail_at__isnull=False), name="quota_alert_to_mail"),
            models.Index(fields=["operators_at"], condition=Q(operators_at__isnull=False), name="quota_alert_to_tell"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "level", "subject", "metric", "window", "begins", "threshold", "amount"],
                name="quota_alert_once",
            )
        ]

    def __str__(self) -> str:
        return self.sentence

    @property
    def percent(self) -> int:
        return int(self.used * 100 // self.amount)

    @property
    def sentence(self) -> str:
        """Who used how much of what."""
        who = whose(self.level) + (f" ({self.known_as})" if self.known_as else "")
        used, most = (shown(self.metric, self._in_its_unit(amount)) for amount in (self.used, self.amount))
        things = what(self.metric, int(self.amount))
        verb = "keeps" if self.metric in KEPT else "has used"
        return f"{who} {verb} {used} of {most} {things}{WHEN[self.window]} ({self.percent}%)."

    @property
    def consequence(self) -> str:
        if not self.hard:
            return "This limit refuses nothing."
        if self.metric in KEPT:
            return "Beyond the limit, nothing is taken in until something is deleted."
        until = f"{timezone.localtime(self.ends, ZoneInfo(self.tenant.time_zone)):%d %b %Y, %H:%M}"
        if self.threshold < self.Threshold.ALL:
            return f"Beyond the limit, more is refused until {until}."
        if self.used < self.amount:
            return f"Questions that need more than is left are refused until {until}."
        return f"More is refused until {until}."

    @property
    def told_to_webhooks(self) -> dict[str, Any]:
        return {
            "limit": f"{self.level}.{self.metric}.{self.window}",
            "subject": self.known_as or None,
            "threshold": int(self.threshold),
            "used": self._in_its_unit(self.used),
            "amount": self._in_its_unit(self.amount),
            "refuses": self.hard,
            "begins": self._told(self.begins),
            "ends": self._told(self.ends),
        }

    def _told(self, moment: dt.datetime) -> str | None:
        """What is kept has no window."""
        return None if self.metric in KEPT else f"{moment.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"

    def _in_its_unit(self, amount: Decimal) -> float:
        return float(amount / COST_UNITS) if self.metric == LimitedUse.Metric.COST else int(amount)


class LookedAt(models.Model):
    """Up to when the ledger was looked at: one row, of the platform."""

    only = models.BooleanField(primary_key=True, default=True, editable=False)
    until = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(only=True), name="looked_at_once")]

    def __str__(self) -> str:
        return f"{self.until}"
