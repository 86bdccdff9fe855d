"""REST: what a tenant used, added up and record by record."""

from __future__ import annotations

from typing import Any, cast
from zoneinfo import ZoneInfo

from django.db.models import QuerySet
from django.http import Http404, HttpResponseBase
from django.urls import path
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import generics
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access.authentication import Caller
from apps.access.doors import TenantView
from apps.edge.schema import ERRORS
from apps.tenants.models import Tenant
from apps.usage import download
from apps.usage.keeping import kept
from apps.usage.models import UsageRecord
from apps.usage.reports import add_up, records_of
from apps.usage.serializers import (
    PeriodSerializer,
    ReportQuerySerializer,
    UsageRecordSerializer,
    UsageReportSerializer,
)
from chatbot.errors import InvalidRequest


def _asked(request: Request, serializer: type[PeriodSerializer]) -> tuple[Tenant, dict[str, Any]]:
    tenant = cast("Caller", request.user).tenant
    today = timezone.now().astimezone(ZoneInfo(tenant.time_zone)).date()
    query = serializer(data=request.query_params.dict(), context={"today": today})
    query.is_valid(raise_exception=True)
    return tenant, query.validated_data


CSV_EXAMPLE = OpenApiExample(
    "march",
    "model,name,requests,unsettled,once,delivered,loss,none,prompt_tokens,completion_tokens,total_tokens,pages,"
    "cost\r\nQwen2.5-7B-Instruct,,3,0,2,1,0,0,2241,180,2421,0,0.00153450\r\n",
    media_type="text/csv",
)


class CsvRenderer(BaseRenderer):
    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        raise NotImplementedError  # it is sent as it is written; this is here to be asked for


class Usage(TenantView):
    scopes = {"GET": "usage:read"}
    renderer_classes = [JSONRenderer, CsvRenderer]

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        try:
            return super().perform_content_negotiation(request, force)
        except Http404 as error:
            raise InvalidRequest(fields={"format": "Give json or csv."}) from error

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        finalized = super().finalize_response(request, response, *args, **kwargs)
        if (
            isinstance(response, Response) and response.exception
        ):  # an error is told in one shape, whatever was asked for
            finalized.accepted_renderer = JSONRenderer()
            finalized.accepted_media_type = JSONRenderer.media_type
        return finalized

    @extend_schema(
        operation_id="get_usage",
        parameters=[ReportQuerySerializer],
        responses={
            (200, "application/json"): UsageReportSerializer,
            (200, "text/csv"): OpenApiResponse(OpenApiTypes.STR, "A line for each group.", [CSV_EXAMPLE]),
            **ERRORS,
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Add up a period: requests, tokens, cost and bills, in all and by what `group_by` names.

        At most 1,000 groups are told apart, those with the most tokens first. `total` counts all. As CSV, with
        `Accept: text/csv` or `format=csv`, it is a line for each group, and up to 100,000 of them.
        """
        tenant, asked = _asked(request, ReportQuerySerializer)
        first, last, by = asked["from"], asked["to"], asked["group_by"]
        if isinstance(request.accepted_renderer, CsvRenderer):
            return download.as_csv(tenant, first, last, by, user=asked["user"])
        report = add_up(tenant, first, last, by, user=asked["user"])
        told = {**asked, "kept": kept(tenant), "total": report.total, "results": report.groups}
        return Response(UsageReportSerializer(told).data)


class Records(TenantView, generics.ListAPIView[UsageRecord]):
    """List what each turn cost, newest first."""

    scopes = {"GET": "usage:read"}
    serializer_class = UsageRecordSerializer
    queryset = UsageRecord.objects.none()

    def get_queryset(self) -> QuerySet[UsageRecord]:
        tenant, asked = _asked(self.request, PeriodSerializer)
        rows = records_of(tenant, asked["from"], asked["to"], user=asked["user"])
        return rows.select_related("end_user", "api_key")

    @extend_schema(
        operation_id="list_usage_records",
        parameters=[PeriodSerializer],
        responses={200: UsageRecordSerializer(many=True), **ERRORS},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


urlpatterns = [
    path("usage", Usage.as_view()),
    path("usage/records", Records.as_view()),
]
