"""The admin's page that tries a search in a collection: what is found, why, and whether that is right."""

from __future__ import annotations

import uuid
from typing import cast
from urllib.parse import urlencode

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from apps.knowledge.judging import judge, judgements, section_of
from apps.knowledge.models import Collection
from apps.knowledge.ranking import Hit
from apps.knowledge.search import find
from apps.tenants.admin_acting import acting_of
from apps.tenants.admin_base import TenantAdmin
from apps.tenants.models import User
from chatbot.errors import ParleyError

LIMIT = 20
VERDICTS = {"right": True, "wrong": False, "unsaid": None}
COLUMNS = (
    ("vector", "Meaning"),
    ("text", "Words"),
    ("trigram", "Spelling"),
    ("fused", "Together"),
    ("rerank", "Model"),
)


def search_page(admin: TenantAdmin, request: HttpRequest, object_id: str) -> HttpResponseBase:
    """GET searches for `q`; POST says of a `chunk` that was found whether it is right."""
    question = request.POST.get("q") or request.GET.get("q", "")
    question = question[: settings.PARLEY_MAX_QUESTION_CHARS]
    with acting_of(request).scope():
        collection: Collection = admin.row(request, object_id, to_write=request.method == "POST")
        index = collection.index
        index.endpoint  # noqa: B018 - while there is a connection
        if request.method == "POST":
            _judge(request, collection, question)
            address = reverse("admin:knowledge_collection_search", args=[collection.pk])
            return HttpResponseRedirect(f"{address}?{urlencode({'q': question})}")
    found = async_to_sync(find)(collection.tenant, [collection], question, limit=LIMIT) if question.strip() else None
    with acting_of(request).scope():
        known = judgements(collection.tenant, collection, question)
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": f"Search in {collection.name}",
        "original": collection,
        "question": question,
        "searched": found is not None,
        "rows": [_row(hit, known) for hit in found.hits] if found else [],
        "timings": found.timings if found else {},
        "degraded": found.degraded if found else [],
        "may_judge": admin.has_change_permission(request, collection),
        "collection_url": reverse("admin:knowledge_collection_change", args=[collection.pk]),
    }
    return TemplateResponse(request, "admin/knowledge/collection/search.html", context)


def _judge(request: HttpRequest, collection: Collection, question: str) -> None:
    try:
        chunk, right = uuid.UUID(request.POST.get("chunk", "")), VERDICTS[request.POST.get("verdict", "")]
    except (ValueError, KeyError) as error:
        raise Http404 from error
    try:
        judge(collection.tenant, collection, question, chunk, right=right, by=cast("User", request.user))
    except ParleyError as error:
        messages.error(request, " ".join((error.fields or {"": error.message}).values()))


def _row(hit: Hit, known: dict[tuple[str, str], bool]) -> dict[str, object]:
    found = hit.candidate
    scores = hit.scores
    return {
        "chunk": found.chunk,
        "place": " › ".join(dict.fromkeys([found.title, *found.heading])),
        "page": found.page,
        "text": found.text,
        "why": hit.why,
        "scores": [(label, scores[name]) for name, label in COLUMNS if scores[name] is not None],
        "right": known.get((found.document, section_of(found.heading))),
    }
