"""Plans, a tenant's own limits, and what it is granted beyond them. Operators set them; owners see theirs."""

from __future__ import annotations

import datetime as dt
from typing import Any, cast
from zoneinfo import ZoneInfo

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import TabularInline
from unfold.decorators import display
from unfold.forms import PaginationInlineFormSet

from apps.tenants.admin_access import Access
from apps.tenants.admin_base import OperatorAdmin, TenantAdmin
from apps.tenants.admin_words import ago, number
from apps.tenants.models import Membership, Tenant
from apps.usage import limits
from apps.usage.admin_subjects import SubjectForm
from apps.usage.limit_models import Grant, LimitedUse, Limiting, Plan, PlanLimit, Quota, TenantPlan
from apps.usage.refusals import WHEN, shown, what
from chatbot.quota import Window, bounds

NOBODY: frozenset[Membership.Role] = frozenset()  # but operators


def amount_of(row: LimitedUse) -> str:
    """The amount, with what it is an amount of."""
    return f"{shown(row.metric, row.amount)} {what(row.metric, row.amount)}{WHEN[row.window]}"


class Telling(admin.ModelAdmin):  # type: ignore[type-arg]
    """Lets every process read its limits again after whatever was done here."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._told(request, super().changeform_view(request, *args, **kwargs))

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._told(request, super().delete_view(request, *args, **kwargs))

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._told(request, super().changelist_view(request, *args, **kwargs))

    @staticmethod
    def _told(request: HttpRequest, response: Any) -> Any:
        if request.method == "POST":
            limits.changed()
        return response


class Columns:
    @display(description="Of whom", ordering="level")
    def whose(self, row: Limiting) -> str:
        return str(row.get_level_display())

    @display(description="At most", ordering="amount")
    def most(self, row: LimitedUse) -> str:
        return amount_of(row)

    @display(description="More than that", label={"Refused": "danger", "Counted": "info"})
    def beyond(self, row: Limiting) -> str:
        return "Refused" if row.hard else "Counted"


class Together(PaginationInlineFormSet):
    """The limits of one plan, which are looked at together."""

    def clean(self) -> None:
        super().clean()
        rows = [
            form.instance
            for form in self.forms
            if form.is_valid() and form.cleaned_data and not form.cleaned_data.get("DELETE")
        ]
        for place, row in enumerate(rows):
            try:
                row.refuse_less_than(rows[:place])
            except ValidationError as error:
                raise ValidationError(error.messages) from error


class Named:
    """Where a SubjectForm is shown and not edited, its subject stands for both of its fields."""

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_fields(request, obj)  # type: ignore[misc]
        if obj is not None and not self.has_change_permission(request, obj):  # type: ignore[attr-defined]
            return [name for name in fields if name != "person"]
        return fields


class PlanLimits(Access, TabularInline):  # type: ignore[misc]
    operators_only = True
    model = PlanLimit
    formset = Together
    extra = 0
    fields = ("level", "metric", "window", "amount", "burst", "hard")


@admin.register(Plan)
class PlanAdmin(Telling, OperatorAdmin):  # type: ignore[misc]
    list_display = ("name", "is_default", "limits_", "weight", "tenants", "description")
    search_fields = ("name",)
    fields = ("name", "description", "is_default", "weight", "documents_at_once")
    inlines = (PlanLimits,)
    empty_title = "No plans yet"
    empty_hint = "A plan is a set of limits. Without one, and without limits of its own, a tenant may use everything."

    def get_queryset(self, request: HttpRequest) -> Any:
        theirs = TenantPlan.objects.filter(plan=OuterRef("pk")).order_by().values("plan").annotate(count=Count("pk"))
        return (
            super()
            .get_queryset(request)
            .annotate(limit_count=Count("limits"), tenant_count=Coalesce(Subquery(theirs.values("count")), 0))
        )

    @display(description="Limits", ordering="limit_count")
    def limits_(self, plan: Any) -> str:
        return number(plan.limit_count)

    @display(description="Tenants", ordering="tenant_count")
    def tenants(self, plan: Any) -> str:
        return number(plan.tenant_count)


@admin.register(TenantPlan)
class TenantPlanAdmin(Telling, TenantAdmin):  # type: ignore[misc]
    written_by = NOBODY
    list_display = ("plan_name", "since")
    list_select_related = ("plan",)
    fields = ("plan",)
    empty_title = "Every tenant has the default plan"
    empty_hint = "Add one here to give a tenant another plan."

    @display(description="Plan", ordering="plan")
    def plan_name(self, row: TenantPlan) -> str:
        return str(row.plan or "The default plan")

    @display(description="Limits changed", ordering="changed")
    def since(self, row: TenantPlan) -> str:
        return ago(row.changed)


@admin.register(Quota)
class QuotaAdmin(Telling, Columns, Named, TenantAdmin):  # type: ignore[misc]
    written_by = NOBODY
    list_display = ("whose", "which", "most", "beyond", "note")
    list_filter = ("level", "metric", "window")
    search_fields = ("subject", "note")
    form = SubjectForm
    fields = ("level", "subject", "person", "metric", "window", "amount", "burst", "hard", "note")
    empty_title = "No limits of its own"
    empty_hint = "The limits of the plan hold. A limit here replaces the plan's, for all of a kind or for one of them."

    @display(description="Which one", ordering="subject")
    def which(self, quota: Quota) -> str:
        return quota.subject or ("" if quota.level == Quota.Level.TENANT else "Each by itself")


class GrantForm(SubjectForm):
    class Meta:
        help_texts = {"reason": "Kept in the audit log."}


@admin.register(Grant)
class GrantAdmin(Telling, Columns, Named, TenantAdmin):  # type: ignore[misc]
    """What is granted stays until the window ends in which it was granted."""

    written_by = NOBODY
    form = GrantForm
    list_display = ("whose", "subject", "most", "until", "reason", "granted_by")
    list_select_related = ("granted_by",)
    fields = ("level", "subject", "person", "metric", "window", "amount", "reason")
    empty_title = "Nothing was granted"
    empty_hint = "Grant extra when somebody needs more than a limit allows, until that day or month ends."

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.granted_by = request.user
        obj.expires = end_of(obj.tenant, obj.window, timezone.now())
        super().save_model(request, obj, form, change)

    @display(description="Until", ordering="expires")
    def until(self, grant: Grant) -> str:
        return f"{timezone.localtime(grant.expires, ZoneInfo(grant.tenant.time_zone)):%d %b %Y, %H:%M}"


def end_of(tenant: Tenant, window: str, now: dt.datetime) -> dt.datetime:
    """When what was granted in a window ends with it; where that is a minute or none, after a day."""
    if window in (LimitedUse.Window.MINUTE, LimitedUse.Window.ONCE):
        return now + dt.timedelta(days=1)
    return bounds(cast("Window", window), now, ZoneInfo(tenant.time_zone))[1]
