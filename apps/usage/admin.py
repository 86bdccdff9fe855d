"""The ledger in the admin: read only, with the totals of whatever is listed."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

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
from apps.tenants.admin_acting import acting_of
from apps.tenants.admin_audit import MOST_LISTED, BoundedPaginator
from apps.tenants.admin_base import ReadOnlyTenantAdmin
from apps.tenants.admin_words import NOTHING, ago, number
from apps.tenants.models import Tenant
from apps.usage import admin_alerts, admin_limits  # noqa: F401 - register their pages
from apps.usage.admin_overview import export_page, overview_page
from apps.usage.models import UsageRecord
from apps.usage.reports import add_up

Bill = UsageRecord.Bill
OPEN = "Not settled yet"


class PeriodFilter(DropdownFilter):
    """Never the whole ledger: it only grows."""

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

    def queryset(self, request: HttpRequest, rows: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        zone, (first, last) = zone_of(request), self.days(request)
        begin = dt.datetime.combine(first, dt.time(), zone)
        end = dt.datetime.combine(last + dt.timedelta(days=1), dt.time(), zone)
        return rows.filter(created__gte=begin, created__lt=end)

    def days(self, request: HttpRequest) -> tuple[dt.date, dt.date]:
        """The first and the last one: the tenant's own, as in its sums, or UTC's for all of them."""
        today, day = timezone.now().astimezone(zone_of(request)).date(), dt.timedelta(days=1)
        match self.value():
            case "today":
                return today, today
            case "yesterday":
                return today - day, today - day
            case days:
                return today - (int(days) - 1) * day, today


def zone_of(request: HttpRequest) -> dt.tzinfo:
    tenant = acting_of(request).tenant
    return ZoneInfo(tenant.time_zone) if tenant else dt.UTC


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnlyTenantAdmin):
    read_by = ANALYSTS
    paginator = BoundedPaginator
    list_display = ("when", "bill_label", "tokens", "end_user", "key", "endpoint")
    list_select_related = ("end_user", "api_key", "endpoint")
    list_filter = (PeriodFilter, "bill", "state")
    sortable_by = ("when",)  # there may be millions
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
            response.context_data["totals"] = self.totals(request, response.context_data["cl"])
            response.context_data["usage_url"] = reverse("admin:usage_overview")
        return response

    def totals(self, request: HttpRequest, listed: Any) -> dict[str, Any] | None:
        """Of all rows that are listed; None where those are too many to be added up for a page."""
        tenant = acting_of(request).tenant
        if tenant and not set(request.GET) - {"period", "p", "o", "e"}:
            period = next(each for each in listed.filter_specs if isinstance(each, PeriodFilter))
            return rolled_up(tenant, *period.days(request))
        return None if listed.paginator.count >= MOST_LISTED else totals(listed.queryset)

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


def rolled_up(tenant: Tenant, first: dt.date, last: dt.date) -> dict[str, Any]:
    total = add_up(tenant, first, last, "kind").total
    return {
        "records": total["requests"],
        "unsettled": total["unsettled"],
        "prompt": total["prompt_tokens"],
        "completion": total["completion_tokens"],
        "tokens": total["total_tokens"],
        **total["bills"],
    }


def totals(records: QuerySet[UsageRecord]) -> dict[str, Any]:
    """Of the listed records: how many requests there are of each bill, and the tokens of all."""
    asked = ~Q(kind=UsageRecord.Kind.INGESTION)  # a step of a document is nobody's request
    counts = {bill.value: Count("pk", filter=asked & Q(bill=bill)) for bill in Bill}
    return records.order_by().aggregate(
        records=Count("pk", filter=asked),
        unsettled=Count("pk", filter=asked & Q(state=UsageRecord.State.RESERVED)),
        prompt=Coalesce(Sum("prompt_tokens"), 0),
        completion=Coalesce(Sum("completion_tokens"), 0),
        tokens=Coalesce(Sum(F("prompt_tokens") + F("completion_tokens")), 0),
        **counts,
    )
