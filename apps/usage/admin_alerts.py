"""Limits that were reached, in the admin: read only, as they were told."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from apps.tenants.admin_base import ReadOnlyTenantAdmin
from apps.tenants.admin_words import ago
from apps.usage.models import QuotaAlert


@admin.register(QuotaAlert)
class QuotaAlertAdmin(ReadOnlyTenantAdmin):
    list_display = ("what", "how_much", "until", "when")
    list_filter = ("threshold",)
    search_fields = ("known_as",)
    fields = ("what", "how_much", "consequence", "until", "when")
    readonly_fields = fields
    empty_title = "No limit was reached"
    empty_hint = "When 80% or all of a limit is used, it is listed here, and owners and webhooks are told."

    def get_queryset(self, request: HttpRequest) -> QuerySet[QuotaAlert]:
        rows: QuerySet[QuotaAlert] = super().get_queryset(request)
        return rows.filter(told=True).select_related("tenant")

    @display(description="What was used")
    def what(self, row: QuotaAlert) -> str:
        return row.sentence

    @display(description="Reached", ordering="threshold", label={"80%": "warning", "All of it": "danger"})
    def how_much(self, row: QuotaAlert) -> str:
        return str(row.get_threshold_display())

    @display(description="What follows")
    def consequence(self, row: QuotaAlert) -> str:
        return row.consequence

    @display(description="Until", ordering="ends")
    def until(self, row: QuotaAlert) -> str:
        return f"{timezone.localtime(row.ends, ZoneInfo(row.tenant.time_zone)):%d %b %Y, %H:%M}"

    @display(description="When", ordering="created")
    def when(self, row: QuotaAlert) -> str:
        return ago(row.created)
