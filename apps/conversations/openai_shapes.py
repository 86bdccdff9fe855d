"""What OpenAI's clients send to /v1, checked and made a question of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.conversations import asking
from apps.conversations.openai_messages import MessagesField, Talk
from apps.conversations.question import Question, Sampling
from apps.edge.fields import Number, Text, Truth
from chatbot.errors import NotFound

MAX_STOPS = 4  # OpenAI's own limit
MAX_STOP_CHARS = 100
SMALLEST_TOP_P = 0.01  # OpenAI takes 0, which model servers refuse
MAX_INPUTS = 2048  # OpenAI's own limit
MAX_INPUT_CHARS = 32_000  # about OpenAI's 8,192 tokens
_TOKENS = (
    "Send text: token numbers mean something to one vocabulary only, which is not this model's. "
    "In LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False)."
)


class Fraction(serializers.FloatField):
    """A number in JSON."""

    def to_internal_value(self, data: Any) -> float:
        if not isinstance(data, int | float) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


_STOP = {"type": "string", "maxLength": MAX_STOP_CHARS}
_INPUT = {"type": "string", "pattern": r"\S", "maxLength": MAX_INPUT_CHARS}


@extend_schema_field({"oneOf": [_STOP, {"type": "array", "items": _STOP, "maxItems": MAX_STOPS}]})
class StopField(serializers.Field[tuple[str, ...], Any, Any, Any]):
    """A text, or up to four, at which the answer ends."""

    def to_internal_value(self, data: Any) -> tuple[str, ...]:
        stops = [data] if isinstance(data, str) else data
        if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
            raise serializers.ValidationError("Give a text or a list of texts.")
        if len(stops) > MAX_STOPS or any(len(stop) > MAX_STOP_CHARS for stop in stops):
            raise serializers.ValidationError(f"Give at most {MAX_STOPS} texts of at most {MAX_STOP_CHARS} characters.")
        return tuple(stop for stop in stops if stop)


class StreamOptionsSerializer(serializers.Serializer[Any]):
    include_usage = Truth(required=False, allow_null=True, help_text="Send a last chunk with the usage and no choices.")


class ChatSerializer(serializers.Serializer[Any]):
    """Fields that are not listed are ignored; so are tools, which assistants do not call."""

    model = Text(max_length=200, help_text="The assistant's slug or id.")
    messages = MessagesField()
    stream = Truth(required=False, allow_null=True)
    stream_options = StreamOptionsSerializer(required=False, allow_null=True)
    max_completion_tokens = Number(
        required=False, allow_null=True, min_value=1, help_text="At most what the assistant allows."
    )
    max_tokens = Number(
        required=False, allow_null=True, min_value=1, help_text="The older name of max_completion_tokens."
    )
    temperature = Fraction(required=False, allow_null=True, min_value=0, max_value=2)
    top_p = Fraction(required=False, allow_null=True, min_value=0, max_value=1)
    stop = StopField(required=False, allow_null=True)
    n = Number(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=1,
        error_messages={"max_value": "A question has one answer here."},
    )
    response_format = serializers.DictField(
        required=False, allow_null=True, help_text='Only `{"type": "text"}` can be promised.'
    )
    user = Text(
        max_length=200, required=False, allow_blank=True, allow_null=True, help_text="Your name for the end user."
    )

    def validate_response_format(self, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and value.get("type") != "text":
            raise serializers.ValidationError("Answers are text; no other format can be promised.")
        return value


class ModelNotFound(NotFound):
    """There is no such assistant or embedding endpoint, in OpenAI's word for it."""

    code = "model_not_found"


@dataclass(frozen=True, slots=True)
class Asked:
    """A call for a chat completion. `model` is what it called the assistant."""

    model: str
    question: Question
    stream: bool
    include_usage: bool


def asked_in(body: Mapping[str, Any], *, idempotency_key: str) -> Asked:
    """The call in a request's body. Raises DRF's ValidationError or InvalidRequest, with fields."""
    serializer = ChatSerializer(data=body)
    serializer.is_valid(raise_exception=True)
    given = {name: value for name, value in serializer.validated_data.items() if value is not None}
    talk: Talk = given["messages"]
    plain = asking.question_in({"text": talk.question, "user": given.get("user", "")}, idempotency_key=idempotency_key)
    top_p = given.get("top_p", 1.0)
    sampling = Sampling(
        max_tokens=given.get("max_completion_tokens", given.get("max_tokens")),
        temperature=given.get("temperature"),
        top_p=max(top_p, SMALLEST_TOP_P) if top_p < 1 else None,  # 1 cuts nothing off
        stop=given.get("stop", ()),
    )
    return Asked(
        model=given["model"],
        # The text as it came: the one that was checked lost the blanks around it.
        question=replace(plain, history=talk.history, instructions=talk.instructions, sampling=sampling),
        stream=given.get("stream", False),
        include_usage=bool((given.get("stream_options") or {}).get("include_usage")),
    )


@extend_schema_field({"oneOf": [_INPUT, {"type": "array", "items": _INPUT, "minItems": 1, "maxItems": MAX_INPUTS}]})
class InputField(serializers.Field[list[str], Any, Any, Any]):
    """A text or a list of texts."""

    def to_internal_value(self, data: Any) -> list[str]:
        texts = [data] if isinstance(data, str) else data
        if not isinstance(texts, list) or not texts:
            raise serializers.ValidationError("Give a text or a list of texts.")
        if any(isinstance(text, int | list) for text in texts):
            raise serializers.ValidationError(_TOKENS)
        if len(texts) > MAX_INPUTS:
            raise serializers.ValidationError(f"Give at most {MAX_INPUTS} texts at a time.")
        for place, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip() or len(text) > MAX_INPUT_CHARS:
                raise serializers.ValidationError({str(place): f"Give a text of 1 to {MAX_INPUT_CHARS} characters."})
        return texts


class EmbeddingsSerializer(serializers.Serializer[Any]):
    """Fields that are not listed are ignored."""

    model = Text(max_length=200, help_text="An embedding endpoint's model, or its name.")
    input = InputField()
    encoding_format = serializers.ChoiceField(["float", "base64"], required=False, allow_null=True)
    dimensions = Number(required=False, allow_null=True, help_text="Refused unless it is the model's own.")
    input_type = serializers.ChoiceField(
        ["passage", "query"],
        required=False,
        allow_null=True,
        help_text="Not OpenAI's: what the texts are, for models that embed questions differently. passage unless told.",
    )
    user = Text(
        max_length=200, required=False, allow_blank=True, allow_null=True, help_text="Your name for the end user."
    )
