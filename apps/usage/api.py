"""REST: what a tenant used, added up and record by record."""

from __future__ import annotations

from typing import Any, cast
from zoneinfo import ZoneInfo

from django.db.models import QuerySet
from django.urls import path
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access.authentication import Caller
from apps.access.doors import TenantView
from apps.edge.schema import ERRORS
from apps.tenants.models import Tenant
from apps.usage.models import UsageRecord
from apps.usage.reports import grouped, records_of, totals
from apps.usage.serializers import (
    PeriodSerializer,
    ReportQuerySerializer,
    UsageRecordSerializer,
    UsageReportSerializer,
)


def _asked(request: Request, serializer: type[PeriodSerializer]) -> tuple[Tenant, dict[str, Any]]:
    tenant = cast("Caller", request.user).tenant
    today = timezone.now().astimezone(ZoneInfo(tenant.time_zone)).date()
    query = serializer(data=request.query_params.dict(), context={"today": today})
    query.is_valid(raise_exception=True)
    return tenant, query.validated_data


class Usage(TenantView):
    scopes = {"GET": "usage:read"}

    @extend_schema(
        operation_id="get_usage",
        parameters=[ReportQuerySerializer],
        responses={200: UsageReportSerializer, **ERRORS},
    )
    def get(self, request: Request) -> Response:
        """Add up a period: requests, tokens and bills, in all and by day, assistant or end user.

        At most 1,000 groups are told apart: assistants and end users with the most tokens first. `total` counts all.
        """
        tenant, asked = _asked(request, ReportQuerySerializer)
        rows = records_of(tenant, asked["from"], asked["to"], user=asked["user"])
        by = asked["group_by"]
        report = {**asked, "total": totals(rows), "results": grouped(rows, by, tenant)}
        return Response(UsageReportSerializer(report).data)


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
