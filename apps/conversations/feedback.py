"""What end users think of answers: one rating and comment of each, the latest counts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers

from apps.access import idempotency
from apps.access.authentication import Caller
from apps.access.doors import Door, read_body
from apps.conversations.models import Feedback, Turn
from apps.conversations.parties import conversation_of, within_reach
from apps.edge.fields import ModelSerializer, Text
from apps.edge.schema import ERRORS, IDEMPOTENCY_KEY, USER
from apps.tenants.scoping import unit
from chatbot.errors import NotFound


class GiveFeedbackSerializer(ModelSerializer[Feedback]):
    """A rating, and why."""

    reasons = serializers.ListField(
        child=serializers.ChoiceField(Feedback.Reason.choices),
        required=False,
        default=list,
        max_length=len(Feedback.Reason),
    )
    user = Text(
        max_length=200, required=False, default="", allow_blank=True, help_text="Who says so: must own the answer."
    )

    class Meta:
        model = Feedback
        fields = ("rating", "reasons", "comment", "user")


class FeedbackSerializer(serializers.ModelSerializer[Feedback]):
    message = serializers.UUIDField(source="message_id")
    user = serializers.CharField(source="end_user.external_id")

    class Meta:
        model = Feedback
        fields = ("message", "user", "rating", "reasons", "comment", "created", "changed")


def turn_of(caller: Caller, answer_id: uuid.UUID, user: str = "") -> Turn:
    """Whose answer this is. Raises NotFound for what is no answer within reach, or of `user`'s where one is named."""
    turns = within_reach(Turn.objects.select_related("end_user"), caller, user)
    turn: Turn | None = turns.filter(answer_id=answer_id).first()
    if turn is None:
        raise NotFound("There is no such answer.")
    return turn


def give_feedback(
    caller: Caller, turn: Turn, *, rating: str, reasons: Sequence[str] = (), comment: str = ""
) -> Feedback:
    """The end user's feedback on a turn's answer, new or instead of their earlier one. Call it as one unit."""
    tenant = caller.tenant
    if turn.conversation_id:  # locked, so that nobody deletes the answer meanwhile
        conversation_of(caller, turn.conversation_id, lock=True)
    why = list(dict.fromkeys(reasons))
    said = {"rating": rating, "reasons": why, "comment": comment, "changed": timezone.now()}
    feedback: Feedback
    of: dict[str, Any] = {"message_id": turn.answer_id, "end_user": turn.end_user}
    feedback, _ = Feedback.objects.for_tenant(tenant).update_or_create(
        **of, defaults=said, create_defaults={**said, "tenant": tenant}
    )
    return feedback


def take_back(caller: Caller, answer_id: uuid.UUID, user: str = "") -> None:
    """Forget the end user's feedback on an answer, if there is any. Raises NotFound. Call it as one unit."""
    turn = turn_of(caller, answer_id, user)
    Feedback.objects.for_tenant(caller.tenant).filter(message_id=answer_id, end_user=turn.end_user).delete()


def _give(caller: Caller, request: HttpRequest, message_id: uuid.UUID, said: dict[str, Any]) -> HttpResponse:
    turn = turn_of(caller, message_id, said.pop("user"))

    def give() -> idempotency.Answer:
        return 200, FeedbackSerializer(give_feedback(caller, turn, **said)).data

    return idempotency.once(request, caller, said, give, end_user=turn.end_user)


class GiveFeedback(Door):
    scopes = {"POST": "chat:write", "DELETE": "chat:write"}

    @extend_schema(
        operation_id="give_feedback",
        request=GiveFeedbackSerializer,
        parameters=[IDEMPOTENCY_KEY],
        responses={200: FeedbackSerializer, **ERRORS},
    )
    async def post(self, request: HttpRequest, caller: Caller, message_id: uuid.UUID) -> HttpResponseBase:
        """Rate an answer: `up` or `down`, with reasons and a comment. Said again, it replaces what was said before."""
        serializer = GiveFeedbackSerializer(data=read_body(request))
        serializer.is_valid(raise_exception=True)
        return await unit(_give, caller, request, message_id, serializer.validated_data)

    @extend_schema(operation_id="take_feedback_back", parameters=[USER], responses={204: None, **ERRORS})
    async def delete(self, request: HttpRequest, caller: Caller, message_id: uuid.UUID) -> HttpResponseBase:
        """Take the rating of an answer back."""
        await unit(take_back, caller, message_id, request.GET.get("user", ""))
        return HttpResponse(status=204)
