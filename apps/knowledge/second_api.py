"""REST: the second index of a collection."""

from __future__ import annotations

from typing import Any, cast

from django.urls import path
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access import acting
from apps.access.authentication import Caller
from apps.access.doors import TenantView
from apps.edge.fields import Number, Text
from apps.edge.parsers import BoundedJSONParser
from apps.edge.schema import ERRORS, MISSING
from apps.knowledge.collections import find_collection
from apps.knowledge.models import Collection
from apps.knowledge.second import changing
from apps.knowledge.serializers import CollectionSerializer, with_counts
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope

WRITE = "knowledge:write"
SEEN = {200: CollectionSerializer, **ERRORS}


class SecondIndexBuildSerializer(serializers.Serializer[Any]):
    """Which model the second index is built with."""

    model = Text(max_length=200, help_text="As an embedding endpoint that serves you names it.")
    dimension = Number(
        min_value=1, required=False, help_text="Of its vectors; only where it is served with several dimensions."
    )


class SecondIndexOf(TenantView):
    """The index that a collection has beside the one in use."""

    scopes = {"POST": WRITE, "DELETE": WRITE}
    parser_classes = (BoundedJSONParser,)

    @extend_schema(
        operation_id="build_second_index",
        request=SecondIndexBuildSerializer,
        responses={
            202: OpenApiResponse(CollectionSerializer, "Begun; ask for the collection again to follow it."),
            **ERRORS,
            **MISSING,
        },
    )
    def post(self, request: Request, key: str) -> Response:
        """Build a second index with another embedding model, in the background."""
        tenant, collection = _named(request, key)
        asked = SecondIndexBuildSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        second = changing.build(tenant, collection, **asked.validated_data)
        acting.record(request, "second_index.built", collection, model=str(second.index))
        return _shown(tenant, collection, status.HTTP_202_ACCEPTED)

    @extend_schema(
        operation_id="drop_second_index",
        responses={202: OpenApiResponse(CollectionSerializer, "Its vectors are deleted from now on."), **ERRORS},
    )
    def delete(self, request: Request, key: str) -> Response:
        """Drop the second index; one that is being built is cancelled."""
        tenant, collection = _named(request, key)
        changing.drop(tenant, collection)
        acting.record(request, "second_index.dropped", collection)
        return _shown(tenant, collection, status.HTTP_202_ACCEPTED)


class SwitchIndex(TenantView):
    scopes = {"POST": WRITE}
    unscoped = ("post",)  # what a refused switch has noted stays

    @extend_schema(operation_id="switch_index", request=None, responses=SEEN)
    def post(self, request: Request, key: str) -> Response:
        """Use the second index, and keep the one that was in use as the second: switching again goes back."""
        with tenant_scope(cast("Caller", request.user)):
            tenant, collection = _named(request, key)
        changing.switch(tenant, collection)
        with tenant_scope(tenant):
            _, collection = _named(request, key)  # unless it was deleted meanwhile
            acting.record(request, "second_index.switched", collection)
            return _shown(tenant, collection)


class RetryIndex(TenantView):
    scopes = {"POST": WRITE}

    @extend_schema(operation_id="retry_second_index", request=None, responses=SEEN)
    def post(self, request: Request, key: str) -> Response:
        """Go on with one that failed, backs off or waits, at once; others are left alone."""
        tenant, collection = _named(request, key)
        changing.retry(tenant, collection)
        acting.record(request, "second_index.retried", collection)
        return _shown(tenant, collection)


def _named(request: Request, key: str) -> tuple[Tenant, Collection]:
    tenant = cast("Caller", request.user).tenant
    return tenant, find_collection(tenant, key)


def _shown(tenant: Tenant, collection: Collection, code: int = status.HTTP_200_OK) -> Response:
    return Response(CollectionSerializer(with_counts(tenant).get(pk=collection.pk)).data, status=code)


urlpatterns = [
    path("collections/<str:key>/second-index", SecondIndexOf.as_view()),
    path("collections/<str:key>/second-index/switch", SwitchIndex.as_view()),
    path("collections/<str:key>/second-index/retry", RetryIndex.as_view()),
]
