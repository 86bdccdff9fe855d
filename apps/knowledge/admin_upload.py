"""The admin's page that adds documents, and what it and the lists ask while those are being ingested."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    JsonResponse,
)
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_protect

from apps.edge.errors import json_error
from apps.knowledge import ingest, sources, storage
from apps.knowledge.admin_status import status_json
from apps.knowledge.models import Collection, Document
from apps.knowledge.queue import count_ahead
from apps.knowledge.several import Arrival, add_several, is_several
from apps.tenants import audit
from apps.tenants.admin_acting import acting_of, note
from apps.tenants.admin_base import TenantAdmin
from apps.tenants.models import User
from apps.tenants.scoping import tenant_scope
from chatbot import bundles
from chatbot.errors import InvalidRequest, NotFound, ParleyError
from chatbot.formats import LABELS, SUFFIXES

FORMATS = ", ".join([*LABELS.values(), "and ZIP archives of them"])
ACCEPT = ",".join([*SUFFIXES, bundles.SUFFIX])
# A multipart body is a little longer than its file.
ENVELOPE_BYTES = 64 * 1024
STATUS_LIMIT = 200


def upload_page(admin: TenantAdmin, request: HttpRequest, object_id: str) -> HttpResponseBase:
    """GET shows the page; POST takes one document, or an archive of them, and answers JSON: the document's status, a
    list of what became of each file, or an error in our shape.

    The route is exempt from the CSRF middleware, which would read a body of any size before us; see `receive`.
    """
    try:
        with acting_of(request).scope():
            collection: Collection | None = admin.row(request, object_id, to_write=True)
    except Http404:
        if request.method != "POST":
            raise
        collection = None
    return _shown(admin, request, collection) if request.method != "POST" else receive(request, collection)


def _shown(admin: TenantAdmin, request: HttpRequest, collection: Any) -> HttpResponse:
    note(request)
    documents = reverse("admin:knowledge_document_changelist")
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": f"Add documents to {collection.name}",
        "original": collection,
        "limit": settings.PARLEY_MAX_UPLOAD_BYTES,
        "pieces_url": reverse("admin:knowledge_collection_pieces", args=[collection.pk]),
        "formats": FORMATS,
        "accept": ACCEPT,
        "documents_url": f"{documents}?collection__id__exact={collection.pk}",
        "collection_url": reverse("admin:knowledge_collection_change", args=[collection.pk]),
    }
    return TemplateResponse(request, "admin/knowledge/collection/upload.html", context)


def receive(request: HttpRequest, collection: Collection | None) -> HttpResponseBase:
    """Take what was sent. What is too large is refused before its bytes are looked at, the CSRF token after."""
    length = request.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > settings.PARLEY_MAX_UPLOAD_BYTES + ENVELOPE_BYTES:
        return json_error(storage.too_large())
    return csrf_protect(lambda request: _add(request, collection))(request)


def _add(request: HttpRequest, collection: Collection | None) -> HttpResponse:
    note(request)
    file = request.FILES.get("file")
    try:
        if collection is None:
            raise NotFound("There is no such collection.")
        if isinstance(file, File) and is_several([file]):
            user = cast("User", request.user)  # admin_view lets nobody else in
            arrivals = add_several(collection.tenant, collection, [file], created_by=user)
            return JsonResponse({"results": [arrived(request, arrival) for arrival in arrivals]}, status=202)
        document, created = _added(request, collection, file)
        return JsonResponse(told(request, document, created=created), status=202 if created else 200)
    except ParleyError as error:
        return json_error(error)


def arrived(request: HttpRequest, arrival: Arrival) -> dict[str, Any]:
    """What became of one file of several."""
    if arrival.document:
        return {"name": arrival.name, **told(request, arrival.document, created=arrival.added)}
    return {"name": arrival.name, "message": arrival.refusal and arrival.refusal.sentence}


def told(request: HttpRequest, document: Document, *, created: bool) -> dict[str, Any]:
    """A document that came, which is entered in the audit log."""
    if created:
        audit.record(document, "document.added", audit.actor_of(request), document)
    url = reverse("admin:knowledge_document_change", args=[document.pk])
    return {**status_json(document), "title": document.title, "url": url, "created": created}


def _added(request: HttpRequest, collection: Collection, file: Any) -> tuple[Document, bool]:
    """The document of an uploaded file, an address or a text."""
    tenant, user = collection.tenant, cast("User", request.user)
    title = request.POST.get("title", "")
    if url := request.POST.get("url"):
        return sources.add_source(tenant, collection, url=url, title=title, created_by=user)
    if text := request.POST.get("text"):
        content = text.replace("\r\n", "\n").encode()
        return ingest.add_document(tenant, collection, name="", content=content, title=title, created_by=user)
    if not isinstance(file, File):
        raise InvalidRequest(fields={"file": "Choose a file."})
    return ingest.add_document(tenant, collection, name=file.name or "", content=file, created_by=user)


def statuses(admin: TenantAdmin, request: HttpRequest) -> JsonResponse:
    """The documents named by `id` that this user may see, as status_json gives them; unknown ones are left out."""
    wanted = [key for text in request.GET.getlist("id")[:STATUS_LIMIT] if (key := _uuid(text))]
    found = list(admin.get_queryset(request).filter(pk__in=wanted))
    for tenant_id in {document.tenant_id for document in found}:
        with tenant_scope(tenant_id):
            count_ahead(tenant_id, [document for document in found if document.tenant_id == tenant_id])
    return JsonResponse({"documents": [status_json(document) for document in found]})


def download(admin: TenantAdmin, request: HttpRequest, object_id: str) -> HttpResponseBase:
    """The bytes as they were uploaded, always as a file to keep: a browser must never open them in our origin."""
    document: Document = admin.row(request, object_id)
    if not document.stored:
        raise Http404("It was not fetched yet.")
    if link := storage.link(document):
        return HttpResponseRedirect(link)
    name = document.file_name or f"{document.title}.txt"
    response = FileResponse(
        default_storage.open(document.stored), as_attachment=True, filename=name, content_type=document.media_type
    )
    response["Content-Security-Policy"] = "sandbox"
    return response


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
