"""What of the admin spans apps: its first page, its search and login page, and tenants with counts from everywhere."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import admin
from django.db.models import Count, Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from apps.assistants.models import Assistant
from apps.knowledge.models import Document
from apps.ops.navigation import search
from apps.tenants.admin import TenantsAdmin
from apps.tenants.admin_words import number
from apps.tenants.models import Tenant
from apps.usage.models import UsageRecord

admin.site.index_template = "admin/ops/dashboard.html"
admin.site.login_template = "admin/ops/login.html"
admin.site.search = search  # type: ignore[attr-defined]

LATELY = dt.timedelta(days=30)


def _count(model: type[Model], **only: Any) -> Coalesce:
    rows = model._default_manager.filter(tenant=OuterRef("pk"), **only).order_by()
    return Coalesce(Subquery(rows.values("tenant").annotate(count=Count("pk")).values("count")), 0)


@admin.register(Tenant)
class TenantOverviewAdmin(TenantsAdmin):
    list_display = ("name", "state", "members", "assistants", "documents", "turns", "since")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        return (
            super()
            .get_queryset(request)
            .annotate(
                assistant_count=_count(Assistant),
                document_count=_count(Document),
                # The ledger has a row for each admitted turn, and the index for this.
                turn_count=_count(UsageRecord, created__gte=timezone.now() - LATELY),
            )
        )

    @display(description="Assistants", ordering="assistant_count")
    def assistants(self, tenant: Any) -> str:
        return number(tenant.assistant_count)

    @display(description="Documents", ordering="document_count")
    def documents(self, tenant: Any) -> str:
        return number(tenant.document_count)

    @display(description="Turns in 30 days", ordering="turn_count")
    def turns(self, tenant: Any) -> str:
        return number(tenant.turn_count)
