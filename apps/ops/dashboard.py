"""The admin's first page: what happened in the person's tenants, what needs them, and what to do next."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.db.models import Aggregate, Count, F, FloatField, Model, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from apps.assistants.models import Assistant
from apps.conversations.models import Conversation, Turn
from apps.inference.admin import last_test
from apps.inference.models import Endpoint
from apps.inference.probe import last_probed
from apps.knowledge.models import Collection, Document
from apps.ops.navigation import visible_pages
from apps.tenants.admin_access import acts_for_several, is_operator, tenants_of
from apps.tenants.admin_acting import acting_of
from apps.tenants.admin_choices import within
from apps.tenants.models import ApiKey, Tenant
from apps.webhooks.models import Webhook

DAYS = 7
SHOWN = 3
ENDPOINTS_SHOWN = 8
State, Status = Turn.State, Document.Status
# In the order in which the bars are stacked.
STATES = (
    (State.FINISHED, "var(--color-primary-600)"),
    (State.STOPPED, "var(--color-primary-300)"),
    (State.RUNNING, "var(--color-base-400)"),
    (State.QUEUED, "var(--color-base-300)"),
    (State.INTERRUPTED, "#f59e0b"),
    (State.FAILED, "#ef4444"),
)


class Median(Aggregate):
    function = "PERCENTILE_CONT"
    template = "%(function)s(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()


@dataclass(frozen=True, slots=True)
class Step:
    """One of the things that lead to the first answer."""

    title: str
    done: bool
    url: str  # empty where somebody else has to do it


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """unfold's DASHBOARD_CALLBACK."""
    context["title"] = "Dashboard"
    acting = acting_of(request)
    if acting.tenant is None and not acting.across:
        return context | {"no_tenant": True}
    pages = visible_pages(request)
    if "knowledge.document" not in pages:
        return context | {"find_url": reverse("admin:conversations_find")}
    context |= _documents(request)
    context["silenced"] = _silenced(request)
    if "conversations.turn" in pages:
        context |= _week(_own(request, Turn))
    if not context.get("week"):
        steps = _steps(request)
        # Who sees no turns is not told for ever what was done long ago.
        context["steps"] = [] if all(step.done for step in steps) else steps
    if is_operator(request):
        context["endpoints"] = _endpoints()
    return context


def _own(request: HttpRequest, model: type[Model]) -> QuerySet[Any]:
    rows = model._default_manager.order_by()
    acting = acting_of(request)
    return rows if acting.across else rows.filter(tenant=acting.tenant_id)


def _week(turns: QuerySet[Turn]) -> dict[str, Any]:
    today = timezone.localdate()
    days = [today - dt.timedelta(days=back) for back in reversed(range(DAYS))]
    midnight = timezone.make_aware(dt.datetime.combine(days[0], dt.time()))
    recent = turns.filter(created__gte=midnight)
    groups = list(
        recent.annotate(day=TruncDate("created"))
        .values("day", "state")
        .annotate(count=Count("pk"), tokens=Sum(F("prompt_tokens") + F("completion_tokens")))
    )
    states = Counter[str]()
    per_day = Counter[tuple[dt.date, str]]()
    for group in groups:
        states[group["state"]] += group["count"]
        per_day[group["day"], group["state"]] += group["count"]
    return {
        "today": sum(group["count"] for group in groups if group["day"] == today),
        "week": states.total(),
        "tokens": sum(group["tokens"] for group in groups),
        "first_token_ms": recent.aggregate(median=Median("first_token_ms"))["median"] if groups else None,
        "states": [(state.label, states[state], colour) for state, colour in STATES if states[state]],
        "chart": json.dumps(_chart(days, per_day, states)),
    }


def _chart(days: list[dt.date], per_day: Counter[tuple[dt.date, str]], states: Counter[str]) -> dict[str, Any]:
    return {
        "labels": [f"{day:%a %d}" for day in days],
        "datasets": [
            {
                "label": state.label,
                "data": [per_day[day, state] for day in days],
                "backgroundColor": colour,
                "stack": "turns",
                "maxBarThickness": 32,
                "borderRadius": 3,
                "displayYAxis": True,
            }
            for state, colour in STATES
            if states[state]
        ],
    }


def _documents(request: HttpRequest) -> dict[str, Any]:
    documents = _own(request, Document)
    counts = dict(documents.values_list("status").annotate(Count("pk")))
    failed = documents.filter(status=Status.FAILED).order_by("-updated")
    return {
        "documents": [(status.label, counts[status]) for status in Status if counts.get(status)],
        "failed": [
            (reverse("admin:knowledge_document_change", args=(document.pk,)), document.title, document.failure_message)
            for document in (failed[:SHOWN] if counts.get(Status.FAILED) else ())
        ],
        "documents_url": reverse("admin:knowledge_document_changelist"),
    }


def _silenced(request: HttpRequest) -> list[tuple[str, str, str]]:
    """Address, name and reason of webhooks that were switched off for what their receivers did."""
    page = visible_pages(request).get("webhooks.webhook")
    rows: QuerySet[Any] = page.get_queryset(request) if page else Webhook.objects.none()
    return [
        (reverse("admin:webhooks_webhook_change", args=(webhook.pk,)), webhook.name, webhook.disabled_reason)
        for webhook in rows.exclude(disabled_at=None).order_by("-disabled_at")[:SHOWN]
    ]


def _endpoints() -> list[dict[str, Any]]:
    rows = list(Endpoint.objects.order_by("-enabled", "name")[:ENDPOINTS_SHOWN])
    outcomes = last_probed(rows)
    return [
        {
            "name": row.name,
            "kind": row.get_kind_display(),
            "enabled": row.enabled,
            "tested": last_test(outcomes.get(str(row.pk))),
            "url": reverse("admin:inference_endpoint_change", args=(row.pk,)),
        }
        for row in rows
    ]


def _steps(request: HttpRequest) -> list[Step]:
    enabled = Endpoint.objects.filter(enabled=True)
    serving = enabled if acts_for_several(request) else within(enabled, tenants_of(request))
    kinds = set(serving.values_list("kind", flat=True))
    done: dict[type[Model], bool] = {
        **({Tenant: Tenant.objects.exists()} if acts_for_several(request) else {}),
        Endpoint: {Endpoint.Kind.CHAT, Endpoint.Kind.EMBEDDING} <= kinds,
        **{model: _own(request, model).exists() for model in (Collection, Document, Assistant, ApiKey, Turn)},
    }
    titles: dict[type[Model], str] = {
        Tenant: "Add a tenant",
        Endpoint: "Add a chat and an embedding endpoint",
        Collection: "Create a collection",
        Document: "Upload the first documents to it",
        Assistant: "Create your first assistant",
        ApiKey: "Issue an API key for your application",
        Turn: "Ask the first question",
    }
    return [Step(title, done[model], _door(request, model)) for model, title in titles.items() if model in done]


def _door(request: HttpRequest, model: type[Model]) -> str:
    """Where a step is done, if the person may: the add page, or the list that leads there."""
    if model is Turn:
        asks: Any = admin.site._registry[Conversation]
        return reverse("admin:conversations_playground") if asks.has_ask_permission(request) else ""
    page = admin.site._registry[model]
    if not (page.has_view_permission(request) if model is Document else page.has_add_permission(request)):
        return ""
    place = "changelist" if model is Document else "add"
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{place}")
