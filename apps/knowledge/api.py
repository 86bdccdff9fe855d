"""REST: collections, the documents in them, and search."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict
from typing import Any, cast

from django.core.files.base import File
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import path
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    PolymorphicProxySerializer,
    extend_schema,
)
from rest_framework import generics, status
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access import acting, idempotency
from apps.access.authentication import Caller
from apps.access.doors import Door, TenantView, read_body
from apps.edge.parsers import BoundedJSONParser
from apps.edge.schema import ERRORS, IDEMPOTENCY_KEY, MISSING, UPLOADS
from apps.knowledge import storage
from apps.knowledge.collections import create_collection, delete_collection, find_collection
from apps.knowledge.events_api import DocumentEvents
from apps.knowledge.filters import read_fields, read_filters, read_tags
from apps.knowledge.ingest import add_document, delete_document, replace_document, retry_document
from apps.knowledge.models import Collection, Document
from apps.knowledge.parsers import UploadParser, refuse_unmeasured
from apps.knowledge.queue import count_ahead
from apps.knowledge.search import find
from apps.knowledge.serializers import (
    ArrivalsSerializer,
    CollectionChangeSerializer,
    CollectionSerializer,
    DocumentChangeSerializer,
    DocumentSerializer,
    ReplaceSerializer,
    ResultsSerializer,
    SearchSerializer,
    UploadSerializer,
    with_counts,
)
from apps.knowledge.several import add_several, is_several
from apps.knowledge.sources import add_source, replace_source
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope, unit
from chatbot.errors import InvalidRequest, NotFound

QUEUED = OpenApiExample(
    "Queued",
    {
        "id": "0197c6a2-5d6e-7a53-b1ad-2f6f0f4f6f11",
        "collection": "manuals",
        "title": "Pump manual",
        "file_name": "pump.pdf",
        "source_url": "",
        "fetched_at": None,
        "media_type": "application/pdf",
        "size": 482113,
        "status": "queued",
        "ahead": None,
        "progress": {"done": 0, "total": 0, "unit": "passages"},
        "failure": None,
        "retry_at": None,
        "tags": [],
        "fields": {},
        "pages": 0,
        "passages": 0,
        "created": "2026-01-31T09:30:00Z",
        "ready_at": None,
    },
    response_only=True,
)
ACCEPTED = {
    202: OpenApiResponse(DocumentSerializer, "Stored; ask for it again to follow its ingestion.", examples=[QUEUED]),
    200: OpenApiResponse(
        DocumentSerializer, "The same bytes, or the same address, are there already; this is their document."
    ),
    **ERRORS,
    **MISSING,
    **UPLOADS,
}
ADDED = {
    **ACCEPTED,
    202: OpenApiResponse(
        PolymorphicProxySerializer("Added", [DocumentSerializer, ArrivalsSerializer], resource_type_field_name=None),
        "Stored; ask for it again to follow its ingestion.",
        examples=[QUEUED],
    ),
}


def caller_of(request: Request) -> Caller:
    return cast("Caller", request.user)


def tenant_of(request: Request) -> Tenant:
    return caller_of(request).tenant


def valid(serializer: Any) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


class Collections(TenantView, generics.ListAPIView[Collection]):
    """Collections, newest first."""

    scopes = {"GET": "knowledge:read", "POST": "knowledge:write"}
    serializer_class = CollectionSerializer
    parser_classes = (BoundedJSONParser,)
    queryset = Collection.objects.none()

    def get_queryset(self) -> QuerySet[Collection]:
        return with_counts(tenant_of(self.request))

    @extend_schema(responses={200: CollectionSerializer(many=True), **ERRORS})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        request=CollectionSerializer,
        parameters=[IDEMPOTENCY_KEY],
        responses={201: CollectionSerializer, **ERRORS},
        examples=[OpenApiExample("Manuals", {"name": "Manuals", "slug": "manuals"}, request_only=True)],
    )
    def post(self, request: Request) -> HttpResponse:
        """Create a collection. 503 where no embedding endpoint serves the tenant."""
        caller = caller_of(request)
        tenant, asked = caller.tenant, valid(CollectionSerializer(data=request.data))

        def create() -> idempotency.Answer:
            created = create_collection(tenant, **asked)
            acting.record(request, "collection.added", created)
            return status.HTTP_201_CREATED, CollectionSerializer(with_counts(tenant).get(pk=created.pk)).data

        return idempotency.once(request, caller, asked, create)


class OneCollection(TenantView):
    """A collection by its id or slug."""

    scopes = {"GET": "knowledge:read", "PATCH": "knowledge:write", "DELETE": "knowledge:write"}
    parser_classes = (BoundedJSONParser,)

    @extend_schema(responses={200: CollectionSerializer, **ERRORS})
    def get(self, request: Request, key: str) -> Response:
        tenant = tenant_of(request)
        return Response(CollectionSerializer(with_counts(tenant).get(pk=find_collection(tenant, key).pk)).data)

    @extend_schema(request=CollectionChangeSerializer, responses={200: CollectionSerializer, **ERRORS})
    def patch(self, request: Request, key: str) -> Response:
        """Change its name, its description or the fields by which its documents can be told apart."""
        collection = find_collection(tenant_of(request), key)
        # Not save(): it would write a row anew that was deleted meanwhile.
        if changed := valid(CollectionChangeSerializer(collection, request.data, partial=True)):
            Collection.objects.for_tenant(tenant_of(request)).filter(pk=collection.pk).update(**changed)
            acting.record(request, "collection.changed", collection, fields=sorted(changed))
        return self.get(request, key)

    @extend_schema(responses={204: None, **ERRORS})
    def delete(self, request: Request, key: str) -> Response:
        """Delete it with all its documents."""
        tenant = tenant_of(request)
        collection = find_collection(tenant, key)
        delete_collection(tenant, copy(collection))  # a deleted row forgets its id
        acting.record(request, "collection.deleted", collection)
        return Response(status=status.HTTP_204_NO_CONTENT)


class Documents(TenantView, generics.ListAPIView[Document]):
    """Documents, newest first; `collection` (slug or id) and `status` narrow the list."""

    scopes = {"GET": "knowledge:read", "POST": "knowledge:write"}
    serializer_class = DocumentSerializer
    parser_classes = (UploadParser, BoundedJSONParser)
    unscoped = ("post",)  # bytes are read and stored
    queryset = Document.objects.none()

    def get_queryset(self) -> QuerySet[Document]:
        tenant = tenant_of(self.request)
        rows: QuerySet[Document] = documents_of(tenant)
        if key := self.request.query_params.get("collection"):
            rows = rows.filter(collection=find_collection(tenant, key))
        if (wanted := self.request.query_params.get("status")) is not None:
            if wanted not in Document.Status.values:
                raise InvalidRequest(fields={"status": f"One of {', '.join(Document.Status.values)}."})
            rows = rows.filter(status=wanted)
        return rows

    def paginate_queryset(self, queryset: Any) -> Any:
        rows = super().paginate_queryset(queryset)
        count_ahead(tenant_of(self.request).pk, rows or [])
        return rows

    @extend_schema(
        parameters=[
            OpenApiParameter("collection", str, description="Slug or id."),
            OpenApiParameter("status", str, enum=Document.Status.values),
        ],
        responses={200: DocumentSerializer(many=True), **ERRORS},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        request={"multipart/form-data": UploadSerializer, "application/json": UploadSerializer},
        parameters=[IDEMPOTENCY_KEY],
        responses=ADDED,
    )
    def post(self, request: Request) -> HttpResponse:
        """Add a document: a file in a multipart form; or as JSON a text, or the address to fetch it from.

        Several files, or a ZIP of them, become a document each: the answer lists what became of every one.
        """
        refuse_unmeasured(request)
        sent = valid(UploadSerializer(data=request.data))
        tenant = tenant_of(request)
        with tenant_scope(tenant):
            collection = find_collection(tenant, sent["collection"])

        files = request.FILES.getlist("file")
        if is_several(files) and sent["title"]:
            raise InvalidRequest(fields={"title": "Several files cannot have one title. Leave it out."})

        def add() -> idempotency.Answer:
            if is_several(files):
                arrivals = add_several(tenant, collection, files)
                return status.HTTP_202_ACCEPTED, ArrivalsSerializer({"results": arrivals}).data
            if url := sent.get("url"):
                document, added = add_source(tenant, collection, url=url, title=sent["title"])
            else:
                document, added = add_document(tenant, collection, title=sent["title"], **content_of(sent))
            return status.HTTP_202_ACCEPTED if added else status.HTTP_200_OK, DocumentSerializer(document).data

        return idempotency.once_across(request, caller_of(request), asked_for(sent, files), add)


class OneDocument(TenantView):
    scopes = {
        "GET": "knowledge:read",
        "PUT": "knowledge:write",
        "PATCH": "knowledge:write",
        "DELETE": "knowledge:write",
    }
    parser_classes = (UploadParser, BoundedJSONParser)
    unscoped = ("put",)

    def get_parsers(self) -> list[BaseParser]:
        # A form has no lists and no values but texts: what is changed would not be what was meant.
        changes = getattr(self.request, "method", "") == "PATCH"
        return [BoundedJSONParser()] if changes else list(super().get_parsers())

    @extend_schema(responses={200: DocumentSerializer, **ERRORS})
    def get(self, request: Request, document_id: uuid.UUID) -> Response:
        """A document, and how far its ingestion has come."""
        document = find_document(tenant_of(request), document_id)
        count_ahead(document.tenant_id, [document])
        return shown(document)

    @extend_schema(
        request={"multipart/form-data": ReplaceSerializer, "application/json": ReplaceSerializer}, responses=ACCEPTED
    )
    def put(self, request: Request, document_id: uuid.UUID) -> Response:
        """Replace its content, or the address it comes from. Old passages are found until the new ones are ready."""
        refuse_unmeasured(request)
        tenant = tenant_of(request)
        with tenant_scope(tenant):
            document = find_document(tenant, document_id)
        sent = valid(ReplaceSerializer(data=request.data))
        if url := sent.get("url"):
            document = replace_source(tenant, document, url=url)
        else:
            document = replace_document(tenant, document, **content_of(sent))
        settled = document.status == Document.Status.READY
        return shown(document, status.HTTP_200_OK if settled else status.HTTP_202_ACCEPTED)

    @extend_schema(
        request={"application/json": DocumentChangeSerializer}, responses={200: DocumentSerializer, **ERRORS}
    )
    def patch(self, request: Request, document_id: uuid.UUID) -> Response:
        """Change its tags or the values of its collection's fields."""
        tenant = tenant_of(request)
        document = find_document(tenant, document_id)
        changed = valid(DocumentChangeSerializer(data=request.data))
        if "tags" in changed:
            changed["tags"] = read_tags(changed["tags"], "tags")
        if "fields" in changed:
            changed["fields"] = read_fields(document.collection, changed["fields"], "fields")
        if changed:
            # Not save(): a worker may be writing how far it has come.
            Document.objects.for_tenant(tenant).filter(pk=document.pk).update(**changed)
            acting.record(request, "document.changed", document, fields=sorted(changed))
        return shown(find_document(tenant, document_id))

    @extend_schema(responses={204: None, **ERRORS})
    def delete(self, request: Request, document_id: uuid.UUID) -> Response:
        """Delete it; none of its passages is found any more."""
        tenant = tenant_of(request)
        document = find_document(tenant, document_id)
        delete_document(tenant, document)
        acting.record(request, "document.deleted", document)
        return Response(status=status.HTTP_204_NO_CONTENT)


class RetryDocument(TenantView):
    scopes = {"POST": "knowledge:write"}

    @extend_schema(request=None, responses={202: DocumentSerializer, **ERRORS})
    def post(self, request: Request, document_id: uuid.UUID) -> Response:
        """Ingest a failed document again, at once, and fetch one from an address again; others are left alone."""
        tenant = tenant_of(request)
        document = find_document(tenant, document_id)
        retry_document(tenant, document)
        return shown(document, status.HTTP_202_ACCEPTED)


def documents_of(tenant: Tenant) -> QuerySet[Document]:
    rows: QuerySet[Document] = Document.objects.for_tenant(tenant)
    return rows.select_related("collection")


def find_document(tenant: Tenant, document_id: uuid.UUID) -> Document:
    """Raises NotFound, also for another tenant's."""
    document = documents_of(tenant).filter(pk=document_id).first()
    if document is None:
        raise NotFound
    return document


def content_of(sent: dict[str, Any]) -> dict[str, Any]:
    """Name and content of an uploaded file, or of a text, which has no name."""
    if file := sent.get("file"):
        return {"name": file.name, "content": file}
    return {"name": "", "content": sent["text"].encode()}


def asked_for(sent: dict[str, Any], files: Sequence[File[bytes]]) -> dict[str, Any]:
    """What an upload asks for, with its files by name and digest."""
    named = [part for file in files for part in (file.name, storage.digest_of(file))]
    return {**sent, "file": named} if named else sent


def shown(document: Document, code: int = status.HTTP_200_OK) -> Response:
    return Response(DocumentSerializer(document).data, status=code)


class Search(Door):
    scopes = {"POST": "knowledge:read"}

    @extend_schema(
        request=SearchSerializer,
        operation_id="search",
        responses={200: ResultsSerializer, **ERRORS, **MISSING},
    )
    async def post(self, request: HttpRequest, caller: Caller) -> HttpResponseBase:
        """The passages that a question finds, by meaning and by words; by words alone while no vector can be made."""
        asked = valid(SearchSerializer(data=read_body(request)))
        collection = await unit(find_collection, caller.tenant, asked["collection"])
        filters = read_filters(collection, asked["filter"])
        found = await find(caller.tenant, [collection], asked["query"], limit=asked["limit"], filters=filters)
        return JsonResponse(
            {
                "results": [
                    {**asdict(hit.source(n)), "scores": hit.scores, "why": hit.why}
                    for n, hit in enumerate(found.hits, start=1)
                ],
                "timings": {**found.timings, "degraded": found.degraded},
            }
        )


urlpatterns = [
    path("collections", Collections.as_view()),
    path("collections/<str:key>", OneCollection.as_view()),
    path("documents", Documents.as_view()),
    path("documents/<uuid:document_id>", OneDocument.as_view()),
    path("documents/<uuid:document_id>/events", DocumentEvents.as_view()),
    path("documents/<uuid:document_id>/retry", RetryDocument.as_view()),
    path("search", Search.as_view()),
]
