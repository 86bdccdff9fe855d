"""REST: links that show a conversation, and handing it over to a person."""

from __future__ import annotations

import uuid
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import path
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers

from apps.access import idempotency, rates
from apps.access.authentication import Caller
from apps.access.doors import Door, read_body
from apps.access.rates import Rate
from apps.conversations import handoff, sharing
from apps.conversations.parties import conversation_of
from apps.edge.fields import Number, Text
from apps.edge.schema import ERRORS, IDEMPOTENCY_KEY, MEANINGS, USER, ErrorSerializer
from apps.tenants.scoping import unit

# Of one end user: links are made by hand, and somebody reads each hand-off.
SHARES = Rate(burst=20, every=30.0)
HAND_OFFS = Rate(burst=3, every=300.0)
LONGEST_DAYS = 365
OFTEN = {429: OpenApiResponse(ErrorSerializer, MEANINGS[429])}


class MakeShareSerializer(serializers.Serializer[Any]):
    """How much to show, and for how long."""

    turn = serializers.UUIDField(
        required=False, allow_null=True, default=None, help_text="The last turn to show. Left out: the latest answered."
    )
    days = Number(
        min_value=1,
        max_value=LONGEST_DAYS,
        required=False,
        allow_null=True,
        default=None,
        help_text="After so many days the link ends by itself. Left out: when somebody ends it.",
    )
    user = Text(max_length=200, required=False, default="", allow_blank=True, help_text="Whose conversation it is.")


class ShareSerializer(serializers.Serializer[Any]):
    """A link. It is told this once: Parley keeps only its digest."""

    url = serializers.CharField()
    created = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)


class HandOffSerializer(serializers.Serializer[Any]):
    """How a person can answer, and what they should know."""

    email = serializers.EmailField(max_length=254, required=False, default="", allow_blank=True)
    note = Text(max_length=2000, required=False, default="", allow_blank=True)
    user = Text(max_length=200, required=False, default="", allow_blank=True, help_text="Whose conversation it is.")


class HandedOverSerializer(serializers.Serializer[Any]):
    """Somebody was told."""

    conversation = serializers.UUIDField()


class Shares(Door):
    scopes = {"POST": "chat:write", "DELETE": "chat:write"}

    @extend_schema(
        operation_id="share_conversation",
        request=MakeShareSerializer,
        responses={201: ShareSerializer, **ERRORS, **OFTEN},
    )
    async def post(self, request: HttpRequest, caller: Caller, conversation_id: uuid.UUID) -> HttpResponseBase:
        """Make a link that shows the conversation as it is now to whoever has it, until it is ended."""
        serializer = MakeShareSerializer(data=read_body(request))
        serializer.is_valid(raise_exception=True)
        await _take(SHARES, "shares", caller, conversation_id)
        made, url = await unit(sharing.share, caller, conversation_id, **serializer.validated_data)
        shown = ShareSerializer({"url": url, "created": made.created, "expires_at": made.expires_at}).data
        return JsonResponse(dict(shown), status=201, headers={"Cache-Control": "no-store"})

    @extend_schema(operation_id="unshare_conversation", parameters=[USER], responses={204: None, **ERRORS})
    async def delete(self, request: HttpRequest, caller: Caller, conversation_id: uuid.UUID) -> HttpResponseBase:
        """End all links to the conversation."""
        await unit(sharing.unshare, caller, conversation_id, user=request.GET.get("user", ""))
        return HttpResponse(status=204)


class HandOff(Door):
    scopes = {"POST": "chat:write"}

    @extend_schema(
        operation_id="hand_off_conversation",
        request=HandOffSerializer,
        parameters=[IDEMPOTENCY_KEY],
        responses={202: HandedOverSerializer, **ERRORS, **OFTEN},
    )
    async def post(self, request: HttpRequest, caller: Caller, conversation_id: uuid.UUID) -> HttpResponseBase:
        """Ask for a person to go on with the conversation: the tenant's webhooks are told `conversation.handoff`."""
        serializer = HandOffSerializer(data=read_body(request))
        serializer.is_valid(raise_exception=True)
        return await unit(_hand_off, caller, request, conversation_id, serializer.validated_data)


def _hand_off(caller: Caller, request: HttpRequest, conversation_id: uuid.UUID, asked: dict[str, Any]) -> HttpResponse:
    conversation = conversation_of(caller, conversation_id, user=asked["user"])

    def hand_off() -> idempotency.Answer:
        handoff.hand_off(caller, conversation_id, **asked)
        # Last, so that what was refused costs nothing; refused here, nothing was told.
        async_to_sync(_take)(HAND_OFFS, "hand-offs", caller, conversation.end_user_id)
        return 202, {"conversation": conversation_id}

    return idempotency.once(request, caller, asked, hand_off, end_user=conversation.end_user)


async def _take(rate: Rate, what: str, caller: Caller, whose: uuid.UUID) -> None:
    await rates.take(rate, what, str(caller.tenant_id), caller.acts_for or str(whose))


urlpatterns = [
    path("conversations/<uuid:conversation_id>/share", Shares.as_view()),
    path("conversations/<uuid:conversation_id>/handoff", HandOff.as_view()),
]
