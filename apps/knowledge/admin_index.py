"""The admin's page about a collection's embedding indexes: the one in use, the second one, and what to do with that."""

from __future__ import annotations

import math
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from apps.inference.models import Endpoint
from apps.knowledge.models import Collection, SecondIndex
from apps.knowledge.second import changing
from apps.tenants import audit
from apps.tenants.admin_base import TenantAdmin
from chatbot.errors import ParleyError

State = SecondIndex.State
VARIANTS = {
    State.BUILDING: "info",
    State.WAITING: "warning",
    State.RETRYING: "warning",
    State.READY: "success",
    State.FAILED: "danger",
    State.DROPPING: "default",
}
# What each deed is called in the audit log, and what is said when it is done.
DEEDS = {
    "build": ("built", "The second index is being built. Searches use the one in use until you switch."),
    "switch": ("switched", "The collection has switched. The index that it used stays, so that you can switch back."),
    "retry": ("retried", "It goes on as soon as a worker is free."),
    "drop": ("dropped", "The second index is being dropped."),
}


def index_page(admin: TenantAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """GET shows it, or tells as JSON how far the second one is; POST does the `deed`."""
    collection: Collection = admin.row(request, object_id, to_write=request.method == "POST")
    if request.method == "POST":
        _do(request, collection)
        return HttpResponseRedirect(request.path)
    second = SecondIndex.objects.for_tenant(collection.tenant_id).filter(collection=collection).first()
    if request.headers.get("Accept") == "application/json":
        return JsonResponse({"documents": [_status(second) if second else _gone(request)]})
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": f"Embedding index of {collection.name}",
        "original": collection,
        "second": second,
        "status": _status_html(second) if second else "",
        "models": _offered(collection).items(),
        "may_change": admin.has_change_permission(request, collection),
        "collection_url": reverse("admin:knowledge_collection_change", args=[collection.pk]),
    }
    return TemplateResponse(request, "admin/knowledge/collection/index.html", context)


def _do(request: HttpRequest, collection: Collection) -> None:
    deed, tenant = request.POST.get("deed", ""), collection.tenant
    if deed not in DEEDS:
        return
    facts = {}
    try:
        if deed == "build":
            facts = {"model": str(_built(collection, request.POST.get("model", "")).index)}
        elif deed == "switch":
            changing.switch(tenant, collection)
        elif deed == "retry":
            changing.retry(tenant, collection)
        else:
            changing.drop(tenant, collection)
    except ParleyError as error:
        messages.error(request, " ".join([*(error.fields or {}).values()] or [error.message]))
        return
    done, said = DEEDS[deed]
    audit.record(collection, f"second_index.{done}", audit.actor_of(request), collection, **facts)
    messages.success(request, said)


def _offered(collection: Collection) -> dict[str, Endpoint]:
    """What can be chosen, by what the form says of it."""
    return {f"{one.model} {one.dimension}": one for one in changing.models(collection.tenant, collection)}


def _built(collection: Collection, chosen: str) -> SecondIndex:
    endpoint = _offered(collection).get(chosen)
    model, dimension = (endpoint.model, endpoint.dimension) if endpoint else (chosen, None)
    return changing.build(collection.tenant, collection, model, dimension)


def _status(second: SecondIndex) -> dict[str, Any]:
    return {"id": str(second.pk), "finished": second.state in SecondIndex.AT_REST, "html": _status_html(second)}


def _gone(request: HttpRequest) -> dict[str, Any]:
    """What is told of one that was dropped."""
    return {"id": request.GET.get("id", ""), "finished": True, "html": "<div></div>"}


def _status_html(second: SecondIndex) -> SafeString:
    """A badge, a progress bar and a sentence. documents.js asks for it again while a worker has anything to do."""
    context = {
        "second": second,
        "finished": second.state in SecondIndex.AT_REST,
        "variant": VARIANTS[State(second.state)],
        "percent": math.floor(100 * second.done / second.total) if second.total else None,
        "words": _words(second),
    }
    # render_to_string escapes what an endpoint said; what comes out is markup.
    return mark_safe(render_to_string("admin/knowledge/collection/index_status.html", context))  # noqa: S308


def _words(second: SecondIndex) -> str:
    match second.state:
        case State.FAILED | State.WAITING:
            return second.failure_message
        case State.RETRYING:
            minutes = math.ceil((second.next_slice_at - timezone.now()).total_seconds() / 60)
            return f"{second.failure_message} Tried again within {max(minutes, 1)} min."
        case State.READY:
            return "Every passage has its vector in it."
        case State.DROPPING:
            return "Its vectors are deleted."
    return f"{second.done:,} of {second.total:,} passages"
