"""REST: sources of documents, and their runs."""

from __future__ import annotations

import uuid
from copy import copy
from typing import Any, cast

from django.db.models import Count, Prefetch, QuerySet
from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access import acting, idempotency
from apps.access.authentication import Caller
from apps.access.doors import TenantView
from apps.edge.parsers import BoundedJSONParser
from apps.edge.schema import ERRORS, IDEMPOTENCY_KEY, MISSING
from apps.knowledge.collections import find_collection
from apps.knowledge.crawl import registering, schedule
from apps.knowledge.models import Source, SourceRun
from apps.knowledge.source_serializers import (
    KnowledgeSourceSerializer,
    SourceChangeSerializer,
    SourceCreationSerializer,
    SourceRunSerializer,
)
from apps.tenants.models import Tenant
from chatbot.errors import InvalidRequest, NotFound

READ, WRITE = "knowledge:read", "knowledge:write"


def tenant_of(request: Request) -> Tenant:
    return cast("Caller", request.user).tenant


def valid(serializer: Any) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def sources_of(tenant: Tenant) -> QuerySet[Source]:
    newest = SourceRun.objects.for_tenant(tenant).order_by("source_id", "-created").distinct("source_id")
    rows: QuerySet[Source] = Source.objects.for_tenant(tenant).select_related("collection")
    return rows.annotate(document_count=Count("pages__document")).prefetch_related(
        Prefetch("runs", newest, to_attr="newest_runs")
    )


def find_source(tenant: Tenant, source_id: uuid.UUID) -> Source:
    """Raises NotFound, also for another tenant's."""
    source = sources_of(tenant).filter(pk=source_id).first()
    if source is None:
        raise NotFound
    return source


def shown(tenant: Tenant, source_id: uuid.UUID) -> dict[str, Any]:
    return dict(KnowledgeSourceSerializer(find_source(tenant, source_id)).data)


class Sources(TenantView, generics.ListAPIView[Source]):
    """Sources, newest first; `collection` (slug or id) narrows the list."""

    scopes = {"GET": READ, "POST": WRITE}
    serializer_class = KnowledgeSourceSerializer
    parser_classes = (BoundedJSONParser,)
    queryset = Source.objects.none()

    def get_queryset(self) -> QuerySet[Source]:
        tenant = tenant_of(self.request)
        rows = sources_of(tenant)
        if key := self.request.query_params.get("collection"):
            rows = rows.filter(collection=find_collection(tenant, key))
        return rows

    @extend_schema(
        parameters=[OpenApiParameter("collection", str, description="Slug or id.")],
        responses={200: KnowledgeSourceSerializer(many=True), **ERRORS},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        request=SourceCreationSerializer,
        parameters=[IDEMPOTENCY_KEY],
        responses={201: KnowledgeSourceSerializer, **ERRORS, **MISSING},
    )
    def post(self, request: Request) -> HttpResponse:
        """Add a site, a sitemap or a bucket whose pages become documents. It runs by its schedule, or by hand."""
        caller = cast("Caller", request.user)
        tenant, asked = caller.tenant, valid(SourceCreationSerializer(data=request.data))

        def create() -> idempotency.Answer:
            fields = {**asked, "collection": find_collection(tenant, asked["collection"])}
            added = registering.add_source(tenant, fields.pop("collection"), **fields)
            acting.record(request, "source.added", added)
            return status.HTTP_201_CREATED, shown(tenant, added.pk)

        return idempotency.once(request, caller, asked, create)


class OneSource(TenantView):
    scopes = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}
    parser_classes = (BoundedJSONParser,)

    @extend_schema(responses={200: KnowledgeSourceSerializer, **ERRORS})
    def get(self, request: Request, source_id: uuid.UUID) -> Response:
        """A source, its newest run, and when the next one is due."""
        return Response(shown(tenant_of(request), source_id))

    @extend_schema(request=SourceChangeSerializer(partial=True), responses={200: KnowledgeSourceSerializer, **ERRORS})
    def patch(self, request: Request, source_id: uuid.UUID) -> Response:
        """Change it. Its kind and where it begins stay."""
        tenant = tenant_of(request)
        source = find_source(tenant, source_id)
        changes = valid(SourceChangeSerializer(data=request.data, partial=True))
        registering.change_source(tenant, source, **changes)
        acting.record(request, "source.changed", source, fields=sorted(changes))
        return Response(shown(tenant, source_id))

    @extend_schema(
        parameters=[OpenApiParameter("documents", str, enum=["delete", "keep"], description="What becomes of them.")],
        responses={204: None, **ERRORS},
    )
    def delete(self, request: Request, source_id: uuid.UUID) -> Response:
        """Delete it with all its documents, or keep those with `documents=keep`."""
        tenant, wanted = tenant_of(request), request.query_params.get("documents", "delete")
        if wanted not in {"delete", "keep"}:
            raise InvalidRequest(fields={"documents": "One of delete, keep."})
        source = find_source(tenant, source_id)
        registering.delete_source(tenant, copy(source), keep_documents=wanted == "keep")
        acting.record(request, "source.deleted", source)
        return Response(status=status.HTTP_204_NO_CONTENT)


class RunSource(TenantView):
    scopes = {"POST": WRITE}

    @extend_schema(
        operation_id="run_source",
        request=None,
        responses={
            202: OpenApiResponse(SourceRunSerializer, "Queued; ask for the source again to follow it."),
            200: OpenApiResponse(SourceRunSerializer, "A run that has not ended yet; this is it."),
            **ERRORS,
        },
    )
    def post(self, request: Request, source_id: uuid.UUID) -> Response:
        """Run it now."""
        tenant = tenant_of(request)
        source = find_source(tenant, source_id)
        run, is_new = schedule.run_now(tenant, source)
        if is_new:
            acting.record(request, "source.run", source)
        return Response(SourceRunSerializer(run).data, status=status.HTTP_202_ACCEPTED if is_new else 200)


class StopSource(TenantView):
    scopes = {"POST": WRITE}

    @extend_schema(operation_id="stop_source", request=None, responses={200: KnowledgeSourceSerializer, **ERRORS})
    def post(self, request: Request, source_id: uuid.UUID) -> Response:
        """Stop its run, if there is one. What it has brought stays."""
        tenant = tenant_of(request)
        source = find_source(tenant, source_id)
        if schedule.stop(tenant, source):
            acting.record(request, "source.stopped", source)
        return Response(shown(tenant, source_id))


class SourceRuns(TenantView, generics.ListAPIView[SourceRun]):
    scopes = {"GET": READ}
    serializer_class = SourceRunSerializer
    queryset = SourceRun.objects.none()

    def get_queryset(self) -> QuerySet[SourceRun]:
        tenant = tenant_of(self.request)
        rows: QuerySet[SourceRun] = SourceRun.objects.for_tenant(tenant)
        return rows.filter(source=find_source(tenant, self.kwargs["source_id"]))

    @extend_schema(operation_id="list_source_runs", responses={200: SourceRunSerializer(many=True), **ERRORS})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Its last twenty runs, newest first."""
        return super().get(request, *args, **kwargs)


urlpatterns = [
    path("sources", Sources.as_view()),
    path("sources/<uuid:source_id>", OneSource.as_view()),
    path("sources/<uuid:source_id>/run", RunSource.as_view()),
    path("sources/<uuid:source_id>/stop", StopSource.as_view()),
    path("sources/<uuid:source_id>/runs", SourceRuns.as_view()),
]
