"""REST: a tenant's webhooks, and the log of their deliveries."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.db.models import QuerySet
from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access import acting, idempotency
from apps.access.authentication import Caller
from apps.access.doors import TenantView
from apps.edge.schema import ERRORS, IDEMPOTENCY_KEY
from apps.tenants.models import Tenant
from apps.webhooks import registration
from apps.webhooks.models import Delivery, Webhook
from apps.webhooks.serializers import (
    DeliverySerializer,
    IssuedSerializer,
    WebhookFieldsSerializer,
    WebhookSerializer,
)
from chatbot.errors import InvalidRequest, NotFound

NEW = OpenApiExample(
    "Turns and documents",
    {
        "name": "Ticket system",
        "url": "https://tickets.example.com/parley",
        "events": ["turn.finished", "document.failed"],
    },
    request_only=True,
)
ISSUED = "The webhook with its secret, which is not shown again."


def tenant_of(request: Request) -> Tenant:
    return cast("Caller", request.user).tenant


def valid(serializer: Any) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def find_webhook(tenant: Tenant, webhook_id: uuid.UUID) -> Webhook:
    """Raises NotFound, also for another tenant's."""
    webhook: Webhook | None = Webhook.objects.for_tenant(tenant).filter(pk=webhook_id).first()
    if webhook is None:
        raise NotFound
    webhook.tenant = tenant
    return webhook


class Webhooks(TenantView, generics.ListAPIView[Webhook]):
    """Webhooks, newest first."""

    scopes = {"GET": "admin:*", "POST": "admin:*"}
    serializer_class = WebhookSerializer
    queryset = Webhook.objects.none()

    def get_queryset(self) -> QuerySet[Webhook]:
        rows: QuerySet[Webhook] = Webhook.objects.for_tenant(tenant_of(self.request))
        return rows

    @extend_schema(responses={200: WebhookSerializer(many=True), **ERRORS})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        request=WebhookFieldsSerializer,
        parameters=[IDEMPOTENCY_KEY],
        responses={201: OpenApiResponse(IssuedSerializer, ISSUED), **ERRORS},
        examples=[NEW],
    )
    def post(self, request: Request) -> HttpResponse:
        """Register an address that is told of events. The answer alone shows the secret that signs them."""
        caller = cast("Caller", request.user)
        tenant, asked = caller.tenant, valid(WebhookFieldsSerializer(data=request.data))

        def register() -> idempotency.Answer:
            made = registration.register(tenant, **asked)
            acting.record(request, "webhook.registered", made)
            return status.HTTP_201_CREATED, WebhookSerializer(made).data

        def with_secret(body: dict[str, Any]) -> dict[str, Any]:
            """The secret is kept where it is encrypted, and nowhere else; empty once the webhook is deleted."""
            row = Webhook.objects.for_tenant(tenant).filter(pk=body["id"]).first()
            return {**body, "secret": row.secret if row else ""}

        # A repeat shows the secret, so it takes the same key of the API, too.
        fields = {**asked, "by": caller.api_key_id}
        return idempotency.once(request, caller, fields, register, complete=with_secret)


class OneWebhook(TenantView):
    scopes = {"GET": "admin:*", "PATCH": "admin:*", "DELETE": "admin:*"}

    @extend_schema(responses={200: WebhookSerializer, **ERRORS})
    def get(self, request: Request, webhook_id: uuid.UUID) -> Response:
        """A webhook, and how it fares."""
        return Response(WebhookSerializer(find_webhook(tenant_of(request), webhook_id)).data)

    @extend_schema(request=WebhookFieldsSerializer(partial=True), responses={200: WebhookSerializer, **ERRORS})
    def patch(self, request: Request, webhook_id: uuid.UUID) -> Response:
        """Change it. Switched on again, it starts with a clean slate."""
        webhook = find_webhook(tenant_of(request), webhook_id)
        changes = valid(WebhookFieldsSerializer(data=request.data, partial=True))
        registration.change(webhook, **changes)
        acting.record(request, "webhook.changed", webhook, fields=sorted(changes))
        return Response(WebhookSerializer(webhook).data)

    @extend_schema(responses={204: None, **ERRORS})
    def delete(self, request: Request, webhook_id: uuid.UUID) -> Response:
        """Delete it with its deliveries; none of them is sent any more."""
        webhook = find_webhook(tenant_of(request), webhook_id)
        registration.delete(webhook)
        acting.record(request, "webhook.deleted", webhook)
        return Response(status=status.HTTP_204_NO_CONTENT)


class Secret(TenantView):
    scopes = {"POST": "admin:*"}

    @extend_schema(
        operation_id="rotate_webhook_secret",
        request=None,
        responses={200: OpenApiResponse(IssuedSerializer, ISSUED), **ERRORS},
    )
    def post(self, request: Request, webhook_id: uuid.UUID) -> Response:
        """Replace its secret. For 24 hours, messages are signed with the old one, too."""
        webhook = find_webhook(tenant_of(request), webhook_id)
        registration.rotate_secret(webhook)
        acting.record(request, "webhook.secret_rotated", webhook)
        return Response(IssuedSerializer(webhook).data)


class Deliveries(TenantView, generics.ListAPIView[Delivery]):
    """What a webhook was sent or will be, newest first; of the last 30 days."""

    scopes = {"GET": "admin:*"}
    serializer_class = DeliverySerializer
    queryset = Delivery.objects.none()

    def get_queryset(self) -> QuerySet[Delivery]:
        tenant = tenant_of(self.request)
        webhook = find_webhook(tenant, self.kwargs["webhook_id"])
        rows: QuerySet[Delivery] = Delivery.objects.for_tenant(tenant).filter(webhook=webhook)
        if (wanted := self.request.query_params.get("status")) is not None:
            if wanted not in Delivery.Status.values:
                raise InvalidRequest(fields={"status": f"One of {', '.join(Delivery.Status.values)}."})
            rows = rows.filter(status=wanted)
        return rows

    @extend_schema(
        operation_id="list_webhook_deliveries",
        parameters=[OpenApiParameter("status", str, enum=Delivery.Status.values)],
        responses={200: DeliverySerializer(many=True), **ERRORS},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


urlpatterns = [
    path("webhooks", Webhooks.as_view()),
    path("webhooks/<uuid:webhook_id>", OneWebhook.as_view()),
    path("webhooks/<uuid:webhook_id>/secret", Secret.as_view()),
    path("webhooks/<uuid:webhook_id>/deliveries", Deliveries.as_view()),
]
