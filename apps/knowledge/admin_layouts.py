"""The admin of layouts: how each embedding index is searched, and why. Operators may choose it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from apps.knowledge.models import Collection, Layout
from apps.tenants.admin_access import ANALYSTS, BUILDERS, is_operator
from apps.tenants.admin_base import TenantAdmin
from apps.tenants.admin_words import NOTHING, ago, number

STATES = {
    Layout.State.EXACT: "info",
    Layout.State.BUILDING: "warning",
    Layout.State.INDEXED: "success",
}
LABELS: dict[str, str] = {str(state.label): variant for state, variant in STATES.items()}
MOST_LISTED = 50  # collections


@admin.register(Layout)
class LayoutAdmin(TenantAdmin):
    read_by = BUILDERS | ANALYSTS
    actions = None
    empty_title = "No layouts yet"
    empty_hint = "An embedding index, which comes with a first collection, has one within a minute."
    list_display = ("index", "shown_state", "shown_passages", "shown_reason", "shown_recall", "since_ago")
    list_filter = ("state", "choice")
    list_select_related = ("index",)
    search_fields = ("index__model",)
    fieldsets = (
        (None, {"fields": ("index", "choice", "shown_state", "shown_reason", "since_ago")}),
        ("Passages", {"fields": ("shown_passages", "collections")}),
        ("Recall", {"fields": ("shown_recall", "measured", "ef_search")}),
    )
    readonly_fields = (
        *("index", "shown_state", "shown_reason", "since_ago", "shown_passages", "collections"),
        *("shown_recall", "measured", "ef_search"),
    )

    class Media:
        css = {"all": ["admin/parley/admin.css"]}

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)  # an HNSW index takes memory and time of everybody's database

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.not_before = None  # whatever failed before, somebody wants it now
        super().save_model(request, obj, form, change)

    @display(description="Layout", ordering="state", label=LABELS)
    def shown_state(self, layout: Layout) -> str:
        return str(layout.get_state_display())

    @display(description="Why")
    def shown_reason(self, layout: Layout) -> str:
        return layout.reason or "It has few enough passages to compare each."

    @display(description="Since", ordering="since")
    def since_ago(self, layout: Layout) -> str:
        return ago(layout.since)

    @display(description="Passages", ordering="passages")
    def shown_passages(self, layout: Layout) -> str:
        return number(layout.passages)

    @display(description="Recall@10", ordering="recall_at_10")
    def shown_recall(self, layout: Layout) -> str:
        return NOTHING if layout.recall_at_10 is None else f"{layout.recall_at_10:.3f}"

    @display(description="Measured")
    def measured(self, layout: Layout) -> SafeString | str:
        if layout.measured_at is None:
            return "Not yet; an HNSW index is measured when it is built, and each night."
        return format_html_join("", "{}{}", [(ago(layout.measured_at), f", with {layout.measured_with} searches")])

    @display(description="Collections")
    def collections(self, layout: Layout) -> SafeString | str:
        """What a search of each alone does, the largest first."""
        largest = sorted(layout.by_collection.items(), key=lambda one: -one[1])[:MOST_LISTED]
        rows = Collection.objects.for_tenant(layout.tenant_id).filter(pk__in=[key for key, _ in largest])
        names = {str(pk): name for pk, name in rows.values_list("pk", "name")}
        by_index = layout.state == Layout.State.INDEXED
        lines = [
            (names.get(key, key), number(count), "HNSW" if by_index and count > layout.exact_up_to else "exact")
            for key, count in largest
        ]
        return format_html_join("", "<div>{}: {} passages, {}</div>", lines) if lines else NOTHING
