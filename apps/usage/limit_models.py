"""How much may be used: plans, a tenant's own limits, and what it was granted beyond them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.tenants.scoping import TenantOwned
from chatbot.quota import INGESTED, KEPT

STANDING = KEPT | {"turns"}  # what is there at a time, and not used up in one
# Of a plan that says nothing else, and of tenants without any.
WEIGHT, DOCUMENTS_AT_ONCE = 1, 4
MOST_WEIGHT, MOST_AT_ONCE = 100, 1000


class LimitedUse(models.Model):
    """Of whom, how much of what, in which time."""

    class Level(models.TextChoices):
        TENANT = "tenant", "The tenant as a whole"
        ASSISTANT = "assistant", "Assistant"
        KEY = "key", "API key"
        CLIENT = "client", "OAuth2 client"
        SCOPE = "scope", "Scope"
        USER = "user", "End user"
        VISITOR = "visitor", "Visitor of a web site"
        COLLECTION = "collection", "Collection"

    class Metric(models.TextChoices):
        REQUESTS = "requests", "Questions and calls"
        TOKENS = "tokens", "Tokens of prompts and answers"
        COST = "cost", "Money, at the endpoints' prices"
        TURNS = "turns", "Questions at the same time"
        DOCUMENTS = "documents", "Documents that are kept"
        BYTES = "bytes", "Bytes of documents that are kept"
        PAGES = "pages", "Pages of documents that are read"
        INGESTION = "ingestion", "Tokens of documents that are embedded"

    class Window(models.TextChoices):
        MINUTE = "minute", "A minute"
        HOUR = "hour", "An hour"
        DAY = "day", "A day"
        MONTH = "month", "A calendar month"
        ONCE = "once", "At any one time"

    level = models.CharField("of whom", max_length=10, choices=Level, default=Level.TENANT)
    metric = models.CharField("of what", max_length=10, choices=Metric, default=Metric.TOKENS)
    window = models.CharField("in which time", max_length=6, choices=Window, default=Window.MONTH)
    amount = models.DecimalField(
        "at most",
        max_digits=18,
        decimal_places=2,
        validators=[MinValueValidator(0.01)],
        help_text="Days and months are those of the tenant's time zone; what a minute allows is earned back evenly.",
    )

    class Meta:
        abstract = True

    def clean(self) -> None:
        super().clean()
        if (self.metric in STANDING) != (self.window == self.Window.ONCE):
            raise ValidationError(
                {
                    "window": "Questions at the same time have no window, nor has what is kept of documents; everything"
                    " else has one."
                }
            )
        self._refuse_what_is_nobodys()
        if self.amount is not None and self.metric != self.Metric.COST and self.amount % 1:
            raise ValidationError({"amount": "Only money comes in fractions."})

    def _refuse_what_is_nobodys(self) -> None:
        level, metric = self.level, self.metric
        if metric in INGESTED and level != self.Level.TENANT:
            raise ValidationError({"level": "What documents use when they are read belongs to the tenant as a whole."})
        if metric in INGESTED and self.window == self.Window.MINUTE:
            raise ValidationError({"window": "What documents use is counted by the hour, the day or the month."})
        if metric in KEPT and level not in (self.Level.TENANT, self.Level.COLLECTION):
            raise ValidationError({"level": "Documents are kept by the tenant as a whole, or by a collection."})
        if level == self.Level.COLLECTION and metric not in KEPT:
            raise ValidationError({"metric": "Of a collection only documents and their bytes are counted."})


class Limiting(LimitedUse):
    """The same, as a rule."""

    burst = models.PositiveIntegerField(
        "at once",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Of a minute's amount; empty for all of it. A flood of more waits for what is earned back.",
    )
    hard = models.BooleanField(
        "refuse more", default=True, help_text="Without it, what goes beyond is counted and not refused."
    )

    class Meta:
        abstract = True

    def clean(self) -> None:
        super().clean()
        if self.burst is not None and self.window != self.Window.MINUTE:
            raise ValidationError({"burst": "Only a limit for a minute has a burst."})

    def refuse_less_than(self, others: Iterable[Limiting]) -> None:
        """Raises ValidationError where a part would have more than the whole tenant: nobody could ever use it."""
        for other in others:
            parts = {self.level, other.level}
            if len(parts) == 1 or self.Level.TENANT not in parts or not (self.hard and other.hard):
                continue
            whole, part = (self, other) if self.level == self.Level.TENANT else (other, self)
            if (whole.metric, whole.window) == (part.metric, part.window) and whole.amount < part.amount:
                raise ValidationError(
                    {
                        "amount": f"The tenant as a whole would have {whole.amount:,.0f}, which is less than"
                        f" {part.amount:,.0f} for one part of it ({part.get_level_display()})."
                    }
                )


_KEY = ("level", "metric", "window")
# Sorted: migrations compare the lists.
_ONCE = Q(metric__in=sorted(STANDING))
_FORM = ((_ONCE & Q(window="once")) | (~_ONCE & ~Q(window="once"))) & Q(amount__gt=0)


class Plan(models.Model):
    """A set of limits that tenants have in common, and their share of the workers (shares.py)."""

    name = models.CharField(max_length=100, unique=True)
    description = models.TextField(blank=True)
    is_default = models.BooleanField("for tenants without a plan", default=False)
    weight = models.PositiveSmallIntegerField(
        "weight of documents",
        default=WEIGHT,
        db_default=WEIGHT,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_WEIGHT)],
        help_text="How many documents of a tenant are taken up in the time in which one is of a tenant of weight 1,"
        " where both have some waiting.",
    )
    documents_at_once = models.PositiveSmallIntegerField(
        "documents at once",
        default=DOCUMENTS_AT_ONCE,
        db_default=DOCUMENTS_AT_ONCE,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_AT_ONCE)],
        help_text="How many documents of a tenant workers are at, at the same time, in each queue. Whatever the weight"
        " is, they are not more.",
    )
    changed = models.DateTimeField(db_default=Now(), editable=False)  # with its limits; a trigger keeps it

    class Meta:
        ordering = ("name",)
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"],
                condition=Q(is_default=True),
                name="plan_one_default",
                violation_error_message="Another plan is the one for tenants without a plan.",
            ),
            models.CheckConstraint(condition=Q(weight__gte=1) & Q(documents_at_once__gte=1), name="plan_shares"),
        ]

    def __str__(self) -> str:
        return self.name


class PlanLimit(Limiting):
    """A limit of a plan: of the tenant as a whole, or of each of its assistants, keys, end users and so on."""

    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="limits")

    class Meta:
        verbose_name = "limit"
        ordering = _KEY
        constraints = [
            models.UniqueConstraint(
                fields=["plan", *_KEY],
                name="plan_limit_once",
                violation_error_message="The plan has this limit already.",
            ),
            models.CheckConstraint(condition=_FORM, name="plan_limit_form"),
        ]

    def __str__(self) -> str:
        return f"{self.get_level_display()}: {self.amount:,} {self.metric} ({self.get_window_display().lower()})"


class TenantPlan(TenantOwned):
    """Which plan a tenant has, if not the one of all who have none."""

    tenant = models.OneToOneField("tenants.Tenant", on_delete=models.CASCADE, related_name="+")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    changed = models.DateTimeField(db_default=Now(), editable=False)  # with the tenant's quotas; a trigger keeps it

    class Meta:
        verbose_name = "plan of a tenant"
        verbose_name_plural = "plans of tenants"

    def __str__(self) -> str:
        return f"{self.tenant}: {self.plan or 'no plan of its own'}"


def plan_of(tenant_id: uuid.UUID) -> Plan | None:
    """The plan that holds for a tenant: its own, or the one for all who have none. Call it in the tenant's scope."""
    own = TenantPlan.objects.for_tenant(tenant_id).select_related("plan").first()
    if own and own.plan:
        return own.plan
    return Plan.objects.filter(is_default=True).first()


class Quota(TenantOwned, Limiting):
    """A tenant's own limit, in place of its plan's: for one assistant, key, end user and so on, or for each."""

    subject = models.CharField(
        "which one",
        max_length=200,
        blank=True,
        default="",
        help_text="The id of the assistant, key, client or collection, the name of the scope, or the end user's own id"
        " with the tenant. Empty for each of them by itself.",
    )
    note = models.CharField(max_length=200, blank=True, default="", help_text="Why, for those who wonder later.")

    class Meta:
        verbose_name = "limit"
        ordering = ("tenant", *_KEY)
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "subject", *_KEY],
                name="quota_once",
                violation_error_message="There is such a limit already.",
            ),
            models.CheckConstraint(condition=_FORM, name="quota_form"),
            models.CheckConstraint(condition=Q(subject="") | ~Q(level="tenant"), name="quota_subject"),
        ]

    def __str__(self) -> str:
        whose = self.subject or self.get_level_display()
        return f"{whose}: {self.amount:,} {self.metric} ({self.get_window_display().lower()})"

    def clean(self) -> None:
        super().clean()
        if self.subject and self.level == self.Level.TENANT:
            raise ValidationError({"subject": "The tenant as a whole is only one."})
        if self.amount is not None:
            own = list(Quota.objects.for_tenant(self.tenant_id).exclude(pk=self.pk))
            replaced = {(quota.level, quota.metric, quota.window) for quota in own if not quota.subject}
            plan = plan_of(self.tenant_id)
            theirs = plan.limits.all() if plan else ()
            self.refuse_less_than(
                [*own, *(one for one in theirs if (one.level, one.metric, one.window) not in replaced)]
            )


class Grant(TenantOwned, LimitedUse):
    """What somebody may use beyond a limit, until it ends."""

    subject = models.CharField(max_length=200, blank=True, default="")
    reason = models.CharField(max_length=200)
    granted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, editable=False, related_name="+"
    )
    created = models.DateTimeField(default=timezone.now, editable=False)
    expires = models.DateTimeField()

    class Meta:
        ordering = ("-created",)
        indexes = [models.Index(fields=["tenant", "expires"], name="grant_tenant_expires")]
        constraints = [models.CheckConstraint(condition=_FORM, name="grant_form")]

    def __str__(self) -> str:
        return f"{self.amount:,} {self.metric} more: {self.reason}"
