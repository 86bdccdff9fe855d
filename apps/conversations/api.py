"""REST: assistants, conversations and messages."""

from __future__ import annotations

from typing import Any, cast

from django.db.models import Prefetch, QuerySet
from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from apps.access import idempotency
from apps.access.authentication import Caller
from apps.access.doors import TenantView
from apps.assistants.models import Assistant
from apps.conversations import asking, finding
from apps.conversations.feedback import GiveFeedback
from apps.conversations.models import Conversation, Message, Turn
from apps.conversations.parties import (
    assistants_of,
    conversation_of,
    delete_conversation,
    end_user_of,
    user_for,
    within_reach,
)
from apps.conversations.serializers import (
    AssistantSerializer,
    BeginSerializer,
    ConversationSerializer,
    PlacedMessageSerializer,
)
from apps.edge.pagination import ByCursor
from apps.edge.schema import CONFLICT, ERRORS, IDEMPOTENCY_KEY, USER


def caller_of(request: Request) -> Caller:
    return cast("Caller", request.user)


class ByActivity(ByCursor):
    ordering = "-active_at"


class Oldest(ByCursor):
    ordering = "created"


@extend_schema(responses={200: AssistantSerializer(many=True), **ERRORS})
class Assistants(TenantView, generics.ListAPIView[Assistant]):
    """The assistants that can be asked."""

    scopes = {"GET": "chat:read"}
    serializer_class = AssistantSerializer
    queryset = Assistant.objects.none()

    def get_queryset(self) -> QuerySet[Assistant]:
        return assistants_of(caller_of(self.request))


class Conversations(TenantView, generics.ListAPIView[Conversation]):
    """Conversations, latest activity first; `user`, `assistant` (a slug) and `q` (words) narrow the list."""

    scopes = {"GET": "chat:read", "POST": "chat:write"}
    serializer_class = ConversationSerializer
    pagination_class = ByActivity
    queryset = Conversation.objects.none()

    def get_queryset(self) -> QuerySet[Conversation]:
        user = self.request.query_params.get("user")
        rows: QuerySet[Conversation] = within_reach(Conversation.objects.all(), caller_of(self.request), user)
        if assistant := self.request.query_params.get("assistant"):
            rows = rows.filter(assistant__slug=assistant)
        if words := self.request.query_params.get("q"):
            rows = finding.with_words(rows, caller_of(self.request), words, user=user or "")
        return rows.select_related("assistant", "end_user").prefetch_related("shares")

    @extend_schema(
        parameters=[
            OpenApiParameter("user", str, description="Of this end user alone."),
            OpenApiParameter("assistant", str, description="With this assistant alone: its slug."),
            OpenApiParameter("q", str, description="With all of these words in its title or in what was said."),
        ],
        responses={200: ConversationSerializer(many=True), **ERRORS},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        request=BeginSerializer, parameters=[IDEMPOTENCY_KEY], responses={201: ConversationSerializer, **ERRORS}
    )
    def post(self, request: Request) -> HttpResponse:
        """Begin a conversation with an assistant."""
        serializer = BeginSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        caller, asked = caller_of(request), serializer.validated_data
        end_user = end_user_of(caller.tenant, user_for(caller, asked["user"]))

        def begin() -> idempotency.Answer:
            return status.HTTP_201_CREATED, ConversationSerializer(asking.begin(caller, **asked)).data

        return idempotency.once(request, caller, asked, begin, end_user=end_user)


@extend_schema(parameters=[USER], responses={200: ConversationSerializer, **ERRORS})
@extend_schema_view(
    get=extend_schema(description="Read a conversation."),
    patch=extend_schema(description="Rename a conversation."),
    delete=extend_schema(
        description="Delete a conversation with everything in it. 409 while it is answering.",
        responses={204: None, **ERRORS, 409: CONFLICT[409]},
    ),
)
class OneConversation(TenantView, generics.RetrieveUpdateDestroyAPIView[Conversation]):
    """A conversation: read it, rename it, or delete it with everything in it."""

    scopes = {"GET": "chat:read", "PATCH": "chat:write", "DELETE": "chat:write"}
    serializer_class = ConversationSerializer
    queryset = Conversation.objects.none()
    http_method_names = ("get", "patch", "delete", "options")

    def get_object(self) -> Conversation:
        user = self.request.query_params.get("user", "")
        return conversation_of(caller_of(self.request), self.kwargs["conversation_id"], user=user)

    def perform_update(self, serializer: BaseSerializer[Conversation]) -> None:
        # Not save(): it would write a row anew that was deleted meanwhile, and take back what a question just wrote.
        if serializer.validated_data:
            rows = Conversation.objects.for_tenant(caller_of(self.request).tenant)
            rows.filter(pk=self.kwargs["conversation_id"]).update(**serializer.validated_data)
        serializer.instance = self.get_object()

    def perform_destroy(self, instance: Conversation) -> None:
        delete_conversation(caller_of(self.request), instance)


@extend_schema(parameters=[USER], responses={200: PlacedMessageSerializer(many=True), **ERRORS})
class Messages(TenantView, generics.ListAPIView[Message]):
    """What was said in a conversation on all its branches, oldest first."""

    scopes = {"GET": "chat:read"}
    serializer_class = PlacedMessageSerializer
    pagination_class = Oldest
    queryset = Message.objects.none()

    def get_queryset(self) -> QuerySet[Message]:
        caller, user = caller_of(self.request), self.request.query_params.get("user", "")
        conversation = conversation_of(caller, self.kwargs["conversation_id"], user=user)
        rows: QuerySet[Message] = Message.objects.for_tenant(caller.tenant)
        places = Turn.objects.for_tenant(caller.tenant).only("question", "answer", "parent", "continues", "created")
        placed = (Prefetch("turns", places), Prefetch("answered_by", places), "attachments")
        return rows.filter(conversation=conversation).prefetch_related(*placed)


urlpatterns = [
    path("assistants", Assistants.as_view()),
    path("conversations", Conversations.as_view()),
    path("conversations/<uuid:conversation_id>", OneConversation.as_view()),
    path("conversations/<uuid:conversation_id>/messages", Messages.as_view()),
    path("messages/<uuid:message_id>/feedback", GiveFeedback.as_view()),
]
