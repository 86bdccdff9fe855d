"""The ledger in the admin: read only, with the totals of whatever is listed."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import display

from apps.tenants.admin_access import ANALYSTS
from apps.tenants.admin_base import ReadOnlyTenantAdmin
from apps.tenants.admin_words import NOTHING, ago, number
from apps.usage import admin_alerts, admin_limits  # noqa: F401 - register their pages
from apps.usage.admin_overview import export_page, overview_page
from apps.usage.models import UsageRecord

Bill = UsageRecord.Bill
OPEN = "Not settled yet"


class PeriodFilter(DropdownFilter):
    """Never the whole ledger: it only grows, and its totals are added up for each page."""

    title = "period"
    parameter_name = "period"
    all_option: Any = None
    default = "30"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("today", "Today"),
            ("yesterday", "Yesterday"),
            ("7", "Last 7 days"),
            ("30", "Last 30 days"),
            ("90", "Last 90 days"),
        ]

    def value(self) -> str:
        chosen = super().value()
        return chosen if chosen in dict(self.lookup_choices) else self.default

    def queryset(self, _request: HttpRequest, rows: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
        day = dt.timedelta(days=1)
        match self.value():
            case "today":
                return rows.filter(created__gte=today)
            case "yesterday":
                return rows.filter(created__gte=today - day, created__lt=today)
            case days:
                return rows.filter(created__gte=today - (int(days) - 1) * day)


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnlyTenantAdmin):
    read_by = ANALYSTS
    list_display = ("when", "bill_label", "tokens", "end_user", "key", "endpoint")
    list_select_related = ("end_user", "api_key", "endpoint")
    list_filter = (PeriodFilter, "bill", "state")
    list_before_template: Any = "admin/usage/totals.html"
    empty_title = "Nothing was asked in this period"
    empty_hint = "Each question that is accepted makes one row here, settled when its answer ends."
    fields = ("when", "bill_label", "prompt", "completion", "end_user", "key", "endpoint", "settled", "turn")
    readonly_fields = fields

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("overview/", self.admin_site.admin_view(partial(overview_page, self)), name="usage_overview"),
            path("export/", self.admin_site.admin_view(partial(export_page, self)), name="usage_export"),
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
            response.context_data["totals"] = totals(response.context_data["cl"].queryset)
        return response

    @display(description="When", ordering="created")
    def when(self, record: UsageRecord) -> str:
        return ago(record.created)

    @display(
        description="Bill",
        ordering="bill",
        label={
            Bill.ONCE.label: "success",
            Bill.DELIVERED.label: "info",
            Bill.LOSS.label: "warning",
            Bill.NONE.label: "default",
            OPEN: "primary",
        },
    )
    def bill_label(self, record: UsageRecord) -> str:
        return str(record.get_bill_display()) if record.bill else OPEN

    @display(description="Tokens", ordering="completion_tokens")
    def tokens(self, record: UsageRecord) -> str:
        return f"{self.prompt(record)} in, {self.completion(record)} out"

    @display(description="API key")
    def key(self, record: UsageRecord) -> str:
        return str(record.api_key or NOTHING)

    @display(description="Prompt tokens")
    def prompt(self, record: UsageRecord) -> str:
        return number(record.prompt_tokens)

    @display(description="Answer tokens")
    def completion(self, record: UsageRecord) -> str:
        return f"about {number(record.completion_tokens)}" if record.estimated else number(record.completion_tokens)

    @display(description="Settled")
    def settled(self, record: UsageRecord) -> str:
        return ago(record.settled_at)

    @display(description="Turn")
    def turn(self, record: UsageRecord) -> str:
        if record.turn_id is None:
            return NOTHING
        url = reverse("admin:conversations_turn_change", args=(record.turn_id,))
        return format_html('<a class="text-link" href="{}">Open the turn</a>', url)


def totals(records: QuerySet[UsageRecord]) -> dict[str, Any]:
    """Of the listed records: how many there are of each bill, and their tokens."""
    counts = {bill.value: Count("pk", filter=Q(bill=bill)) for bill in Bill}
    return records.order_by().aggregate(
        records=Count("pk"),
        unsettled=Count("pk", filter=Q(state=UsageRecord.State.RESERVED)),
        prompt=Coalesce(Sum("prompt_tokens"), 0),
        completion=Coalesce(Sum("completion_tokens"), 0),
        tokens=Coalesce(Sum(F("prompt_tokens") + F("completion_tokens")), 0),
        **counts,
    )
