"""The admin's sidebar and its search: both hold only what the person may see."""

from __future__ import annotations

import time
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.core.paginator import Paginator
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.text import capfirst
from unfold.dataclasses import SearchResult

# Each group's entries: what it is called, a Material symbol, the model whose page it is, and an own page's name.
GROUPS: list[tuple[str, list[tuple[str, str, str, str]]]] = [
    (
        "Assistants",
        [
            ("Ask", "chat", "conversations.conversation", "admin:conversations_playground"),
            ("Find a conversation", "search", "conversations.conversation", "admin:conversations_find"),
            ("Assistants", "smart_toy", "assistants.assistant", ""),
            ("Widgets", "chat_bubble", "widget.widget", ""),
            ("Prompts", "edit_note", "assistants.prompt", ""),
            ("Conversations", "forum", "conversations.conversation", ""),
            ("Turns", "quickreply", "conversations.turn", ""),
        ],
    ),
    (
        "Knowledge",
        [
            ("Collections", "folder_open", "knowledge.collection", ""),
            ("Documents", "description", "knowledge.document", ""),
            ("Sources", "travel_explore", "knowledge.source", ""),
            ("Layouts", "grid_view", "knowledge.layout", ""),
        ],
    ),
    (
        "Tenant",
        [
            ("Tenants", "apartment", "tenants.tenant", ""),
            ("Invitations", "mail", "tenants.invitation", ""),
            ("API keys", "key", "tenants.apikey", ""),
            ("Applications", "apps", "oauth.application", ""),
            ("Webhooks", "webhook", "webhooks.webhook", ""),
            ("Deliveries", "outbox", "webhooks.delivery", ""),
            ("End users", "group", "tenants.enduser", ""),
            ("Usage", "bar_chart", "usage.usagerecord", "admin:usage_overview"),
            ("Ledger", "receipt_long", "usage.usagerecord", ""),
            ("Limits", "speed", "usage.quota", ""),
            ("Limits reached", "notification_important", "usage.quotaalert", ""),
            ("Extra granted", "add_card", "usage.grant", ""),
            ("Audit log", "policy", "tenants.auditentry", ""),
        ],
    ),
    (
        "Platform",
        [
            ("Endpoint board", "monitoring", "inference.endpoint", "admin:inference_board"),
            ("Endpoints", "dns", "inference.endpoint", ""),
            ("Plans", "layers", "usage.plan", ""),
            ("Plans of tenants", "assignment", "usage.tenantplan", ""),
            ("Users", "manage_accounts", "tenants.user", ""),
        ],
    ),
]
# Who may open an own page is asked by has_<this>_permission.
PERMISSIONS = {
    "admin:conversations_playground": "ask",
    "admin:conversations_find": "find",
    "admin:inference_board": "view",
}
# Where a search finds rows, in the order of its results: what a person knows by name.
SEARCHED = (
    "assistants.assistant",
    "assistants.prompt",
    "knowledge.collection",
    "knowledge.document",
    "conversations.conversation",
    "tenants.tenant",
    "tenants.apikey",
    "oauth.application",
    "webhooks.webhook",
    "tenants.enduser",
    "inference.endpoint",
    "tenants.user",
)
FOUND_OF_A_KIND = 5


def visible_pages(request: HttpRequest) -> dict[str, ModelAdmin[Model]]:
    """The admin pages that the person may see, by their model's label ("tenants.apikey")."""
    return {
        model._meta.label_lower: page
        for model, page in admin.site._registry.items()
        if page.has_view_permission(request)
    }


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar, as unfold wants it."""
    dashboard = {"title": "Dashboard", "icon": "space_dashboard", "link": reverse("admin:index")}
    groups: list[dict[str, Any]] = [{"title": "", "items": [dashboard]}]
    for title, entries in GROUPS:
        items = [
            {"title": name, "icon": icon, "link": _address(model, own_page)}
            for name, icon, model, own_page in entries
            if _is_open(request, model, own_page)
        ]
        if items:
            groups.append({"title": title, "items": items, "separator": True})
    _mark_active(groups, request.path)
    return groups


def shows_history(request: HttpRequest) -> bool:
    """A row's history is in the audit log."""
    return admin.site.has_permission(request) and _is_open(request, "tenants.auditentry", "")


def _is_open(request: HttpRequest, label: str, own_page: str) -> bool:
    page: Any = admin.site._registry[apps.get_model(label)]
    return bool(getattr(page, f"has_{PERMISSIONS.get(own_page, 'view')}_permission")(request))


def _mark_active(groups: list[dict[str, Any]], path: str) -> None:
    """Only the entry whose address is the longest beginning of the page's: the Ask page lies below Conversations."""
    items = [item for group in groups for item in group["items"]]
    below = [item["link"] for item in items if path.startswith(item["link"])]
    for item in items:
        item["active"] = bool(below) and item["link"] == max(below, key=len)


def _address(model: str, own_page: str = "") -> str:
    return reverse(own_page or f"admin:{model.replace('.', '_')}_changelist")


def search(request: HttpRequest) -> HttpResponse:
    """Rows by name, for the box in the sidebar. unfold's own search keeps its results for minutes, beyond a change of
    membership, and lists apps."""
    started = time.perf_counter()
    words = request.GET.get("s", "").strip()
    if not words:
        return HttpResponse()
    results = _found(request, words)
    template = "command_results" if "extended" in request.GET else "search_results"
    context = {
        "page_obj": Paginator(results, 100),
        "results": Paginator(results, 100).page(1),
        "page_counter": 0,
        "execution_time": time.perf_counter() - started,
        "command_show_history": False,
    }
    return TemplateResponse(request, f"unfold/helpers/{template}.html", context, headers={"HX-Trigger": "search"})


def _found(request: HttpRequest, words: str) -> list[SearchResult]:
    pages = visible_pages(request)
    results = []
    for label in SEARCHED:
        page = pages.get(label)
        if page is None or not page.get_search_fields(request):
            continue
        rows, _ = page.get_search_results(request, page.get_queryset(request), words)
        kind = capfirst(str(page.opts.verbose_name))
        for row in rows[:FOUND_OF_A_KIND]:
            link = reverse(f"admin:{label.replace('.', '_')}_change", args=(row.pk,))
            results.append(SearchResult(title=str(row), description=kind, link=link, icon="arrow_outward"))
    return results
