"""The admin of layouts: how each embedding index is searched, and why. Operators may choose it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from apps.knowledge.models import Layout
from apps.tenants.admin_access import ANALYSTS, BUILDERS, is_operator
from apps.tenants.admin_base import TenantAdmin

STATES: dict[str, str] = {"Exact": "info", "Building": "warning", "Indexed": "success"}


@admin.register(Layout)
class LayoutAdmin(TenantAdmin):
    read_by = BUILDERS | ANALYSTS
    empty_title = "No embedding indexes yet"
    empty_hint = "They come with the first collections, and are looked at every minute."
    list_display = ("index", "shown_state", "shown_passages", "shown_reason", "shown_recall", "since_ago")
    list_filter = ("state", "choice")
    list_select_related = ("index",)
    search_fields = ("index__model", "tenant__slug")
    fieldsets = (
        (None, {"fields": ("index", "choice", "shown_state", "shown_reason", "since_ago")}),
        ("Passages", {"fields": ("shown_passages", "collections")}),
        ("Recall", {"fields": ("shown_recall", "measured", "ef_search")}),
    )
    readonly_fields = (
        *("index", "shown_state", "shown_reason", "since_ago", "shown_passages", "collections", "shown_recall"),
        *("measured", "ef_search"),
    )
    actions = ("choose_automatic", "choose_exact", "choose_indexed")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # It is the database's memory and time that an index takes.
        return is_operator(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
