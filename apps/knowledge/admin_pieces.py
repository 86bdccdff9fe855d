"""Resumable uploads for the admin's page: tus, as the API speaks it, by session and CSRF token."""

from __future__ import annotations

import uuid
from typing import cast

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse

from apps.edge.errors import MethodNotAllowed, json_error
from apps.knowledge import tus, uploads
from apps.knowledge.admin_upload import arrived, told
from apps.knowledge.models import Collection
from apps.knowledge.several import Arrival
from apps.tenants.admin_acting import acting_of, note
from apps.tenants.admin_base import TenantAdmin
from apps.tenants.models import User
from chatbot import bundles
from chatbot.errors import ParleyError


def begin(admin: TenantAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """POST announces a file; `Location` says where its pieces go."""
    note(request)
    try:
        if request.method != "POST":
            raise MethodNotAllowed
        with acting_of(request).scope():
            collection: Collection = admin.row(request, object_id, to_write=True)
            upload = tus.begun(request, collection.tenant, collection, cast("User", request.user))
    except ParleyError as error:
        return json_error(error)
    where = reverse("admin:knowledge_collection_piece", args=[collection.pk, upload.pk])
    return HttpResponse(status=201, headers={**tus.headers_of(upload), "Location": where})


def go_on(admin: TenantAdmin, request: HttpRequest, object_id: str, upload_id: uuid.UUID) -> HttpResponse:
    """HEAD tells how far it is, PATCH adds a piece, DELETE gives it up. The last piece is answered as an upload is."""
    note(request)
    try:
        with acting_of(request).scope():
            collection: Collection = admin.row(request, object_id, to_write=True)
            upload = uploads.find_upload(collection.tenant, upload_id, collection)
        if request.method == "PATCH":
            arrivals = tus.continued(request, collection.tenant, upload)
            if arrivals:
                return _answer(request, upload.file_name, arrivals)
        elif request.method == "DELETE":
            uploads.give_up(collection.tenant, upload)
        elif request.method != "HEAD":
            raise MethodNotAllowed
    except ParleyError as error:
        return json_error(error)
    return HttpResponse(status=200 if request.method == "HEAD" else 204, headers=tus.headers_of(upload))


def _answer(request: HttpRequest, name: str, arrivals: list[Arrival]) -> HttpResponse:
    [first, *_] = arrivals
    if first.document and not name.lower().endswith(bundles.SUFFIX):
        return JsonResponse(told(request, first.document, created=first.added), status=202)
    return JsonResponse({"results": [arrived(request, arrival) for arrival in arrivals]}, status=202)
