"""The shapes of conversations, messages and turns in the API."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.assistants.models import Assistant
from apps.conversations.models import Attachment, Conversation, Message, Turn
from apps.edge.fields import ModelSerializer, Text
from apps.knowledge.serializers import SourceSerializer
from chatbot.attachments import MOST


class AskSerializer(serializers.Serializer[Any]):
    """A question."""

    text = Text(max_length=settings.PARLEY_MAX_QUESTION_CHARS)
    client_id = Text(
        max_length=100, required=False, default="", allow_blank=True, help_text="Your own name for this question."
    )
    user = Text(
        max_length=200, required=False, default="", allow_blank=True, help_text="Who asks: must own the conversation."
    )
    parent = serializers.UUIDField(  # type: ignore[assignment]
        required=False,
        allow_null=True,
        default=None,
        help_text="The turn that it follows, where that is not the conversation's latest.",
    )
    edits = serializers.UUIDField(
        required=False,
        allow_null=True,
        default=None,
        help_text="The turn whose question this one stands instead of: it follows what that one followed.",
    )

    attachments = serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        allow_null=True,
        default=None,
        max_length=MOST,
        help_text="Files of this conversation that come with it. Left out: those of the question that it edits.",
    )

    def validate_attachments(self, value: list[uuid.UUID] | None) -> tuple[uuid.UUID, ...] | None:
        return None if value is None else tuple(dict.fromkeys(value))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["parent"] and attrs["edits"]:
            raise serializers.ValidationError(
                {"edits": "A question that edits another follows what that one followed."}
            )
        return attrs


class AgainSerializer(serializers.Serializer[Any]):
    """A question that is answered once more."""

    client_id = Text(max_length=100, required=False, default="", allow_blank=True)
    user = Text(max_length=200, required=False, default="", allow_blank=True)


class BeginSerializer(serializers.Serializer[Any]):
    """A new conversation."""

    assistant = Text(max_length=64, help_text="The assistant's slug or id.")
    user = Text(max_length=200, required=False, default="", allow_blank=True, help_text="Your name for the end user.")
    title = Text(max_length=200, required=False, default="", allow_blank=True)


class AssistantSerializer(serializers.ModelSerializer[Assistant]):
    class Meta:
        model = Assistant
        fields = ("id", "slug", "name", "description")


class ConversationSerializer(ModelSerializer[Conversation]):
    assistant = serializers.SlugRelatedField[Assistant](slug_field="slug", read_only=True)
    user = serializers.CharField(source="end_user.external_id", read_only=True)
    shared = serializers.BooleanField(read_only=True, help_text="Whether a link shows it to whoever has one.")

    class Meta:
        model = Conversation
        fields = ("id", "assistant", "user", "title", "shared", "created", "active_at")
        read_only_fields = ("id", "created", "active_at")


class NamedAttachmentSerializer(serializers.ModelSerializer[Attachment]):
    """A file that came with a question."""

    class Meta:
        model = Attachment
        fields = ("id", "name", "size")


class MessageSerializer(serializers.ModelSerializer[Message]):
    citations = SourceSerializer(many=True)
    attachments = serializers.SerializerMethodField(help_text="Files that came with a question.")

    class Meta:
        model = Message
        fields = ("id", "role", "text", "attachments", "citations", "created")

    @extend_schema_field(NamedAttachmentSerializer(many=True))
    def get_attachments(self, message: Message) -> Any:
        if message.role == Message.Role.ASSISTANT:
            return []
        return NamedAttachmentSerializer(message.attachments.all(), many=True).data


class PlacedMessageSerializer(MessageSerializer):
    """A message with its place among the branches: a question and its answers have a turn in common."""

    turns = serializers.SerializerMethodField(
        help_text="Of a question: the turns that answer it, oldest first. Of an answer: its turn."
    )
    parent = serializers.SerializerMethodField(  # type: ignore[assignment]
        help_text="The turn that these follow; null at the beginning."
    )
    continues = serializers.SerializerMethodField(help_text="Of an answer: the turn that it goes on with.")

    class Meta(MessageSerializer.Meta):
        fields = (*MessageSerializer.Meta.fields, "turns", "parent", "continues")  # type: ignore[assignment]

    def get_turns(self, message: Message) -> list[uuid.UUID]:
        return [turn.pk for turn in _turns_of(message)]

    def get_parent(self, message: Message) -> uuid.UUID | None:
        return next((turn.parent_id for turn in _turns_of(message)), None)

    def get_continues(self, message: Message) -> uuid.UUID | None:
        is_answer = message.role == Message.Role.ASSISTANT
        return next((turn.continues_id for turn in _turns_of(message) if is_answer), None)


def _turns_of(message: Message) -> list[Turn]:
    """With `turns` and `answered_by` at hand. An answer whose turn is gone would have gone with it."""
    if message.role == Message.Role.USER:
        return sorted(message.turns.all(), key=lambda turn: turn.created)
    return [message.answered_by] if hasattr(message, "answered_by") else []


class UsageSerializer(serializers.Serializer[Turn]):
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.SerializerMethodField()
    estimated = serializers.BooleanField(source="usage_estimated")

    def get_total_tokens(self, turn: Turn) -> int:
        return turn.prompt_tokens + turn.completion_tokens


class TimingsSerializer(serializers.Serializer[Turn]):
    """Milliseconds since the question was accepted."""

    search_ms = serializers.FloatField(allow_null=True)
    first_token_ms = serializers.FloatField(allow_null=True)
    total_ms = serializers.FloatField(allow_null=True)
    degraded = serializers.ListField(
        child=serializers.CharField(), help_text="What the search had to do without, as the timings of a search say it."
    )


class TurnErrorSerializer(serializers.Serializer[Turn]):
    code = serializers.CharField(source="error_code")
    message = serializers.CharField(source="error_message")


class TurnSerializer(serializers.ModelSerializer[Turn]):
    """A question and its answer. `text` is the answer; `citations` are the sources whose [n] stands in it."""

    question = MessageSerializer()
    answer = MessageSerializer(allow_null=True)
    text = serializers.SerializerMethodField()
    sources = SourceSerializer(many=True)
    citations = serializers.SerializerMethodField()
    usage = UsageSerializer(source="*")
    timings = TimingsSerializer(source="*")
    error = serializers.SerializerMethodField()

    class Meta:
        model = Turn
        fields = (
            "id",
            "conversation",
            "parent",
            "continues",
            "state",
            "finish_reason",
            "client_id",
            "question",
            "answer",
            "text",
            "citations",
            "sources",
            "usage",
            "timings",
            "error",
            "created",
            "closed_at",
        )

    def get_text(self, turn: Turn) -> str:
        return turn.answer.text if turn.answer else ""

    def get_citations(self, turn: Turn) -> list[dict[str, Any]]:
        return turn.answer.citations if turn.answer else []

    def get_error(self, turn: Turn) -> dict[str, Any] | None:
        return dict(TurnErrorSerializer(turn).data) if turn.error_code else None


class PolledTurnSerializer(TurnSerializer):
    """A turn, and with `after` what came since: `events`, each with its `id` and `type`, and the `cursor` to ask with
    next time."""

    events = serializers.ListField(child=serializers.DictField(), required=False)
    cursor = serializers.CharField(required=False)

    class Meta(TurnSerializer.Meta):
        fields = (*TurnSerializer.Meta.fields, "events", "cursor")  # type: ignore[assignment]  # two more
