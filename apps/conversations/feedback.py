"""What end users think of answers: one rating and comment of each, the latest counts."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers

from apps.access.authentication import Caller
from apps.access.doors import Door, read_body
from apps.conversations.models import Feedback, Turn
from apps.conversations.parties import conversation_of, within_reach
from apps.edge.fields import ModelSerializer, Text
from apps.edge.schema import ERRORS
from apps.tenants.scoping import unit
from chatbot.errors import NotFound


class GiveFeedbackSerializer(ModelSerializer[Feedback]):
    """A rating, and why."""

    user = Text(
        max_length=200, required=False, default="", allow_blank=True, help_text="Who says so: must own the answer."
    )

    class Meta:
        model = Feedback
        fields = ("rating", "comment", "user")


class FeedbackSerializer(serializers.ModelSerializer[Feedback]):
    message = serializers.UUIDField(source="message_id")
    user = serializers.CharField(source="end_user.external_id")

    class Meta:
        model = Feedback
        fields = ("message", "user", "rating", "comment", "created", "changed")


def give_feedback(caller: Caller, message_id: uuid.UUID, *, rating: str, comment: str = "", user: str = "") -> Feedback:
    """The end user's feedback on an answer, new or instead of their earlier one.

    Call it as one unit. Raises NotFound for what is no answer within reach, or of `user`'s where one is named.
    """
    tenant = caller.tenant
    turns = within_reach(Turn.objects.select_related("end_user"), caller, user)
    turn: Turn | None = turns.filter(answer_id=message_id).first()
    if turn is None:
        raise NotFound("There is no such answer.")
    if turn.conversation_id:  # locked, so that nobody deletes the answer meanwhile
        conversation_of(caller, turn.conversation_id, lock=True)
    said = {"rating": rating, "comment": comment, "changed": timezone.now()}
    feedback: Feedback
    feedback, _ = Feedback.objects.for_tenant(tenant).update_or_create(
        message_id=message_id, end_user=turn.end_user, defaults=said, create_defaults={**said, "tenant": tenant}
    )
    return feedback


def _body(caller: Caller, message_id: uuid.UUID, said: dict[str, Any]) -> dict[str, Any]:
    return dict(FeedbackSerializer(give_feedback(caller, message_id, **said)).data)


class GiveFeedback(Door):
    scopes = {"POST": "chat:write"}

    @extend_schema(
        operation_id="give_feedback",
        request=GiveFeedbackSerializer,
        responses={200: FeedbackSerializer, **ERRORS},
    )
    async def post(self, request: HttpRequest, caller: Caller, message_id: uuid.UUID) -> HttpResponseBase:
        """Rate an answer: `up` or `down`, with a comment. Said again, it replaces what the end user said before."""
        serializer = GiveFeedbackSerializer(data=read_body(request))
        serializer.is_valid(raise_exception=True)
        return JsonResponse(await unit(_body, caller, message_id, serializer.validated_data))
