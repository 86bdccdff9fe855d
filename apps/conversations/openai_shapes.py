"""What OpenAI's clients send to /v1 and what they get: checked here, and described for the OpenAPI schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.conversations import asking
from apps.conversations.openai_messages import MessagesField, Talk
from apps.conversations.question import Question, Sampling
from apps.knowledge.serializers import SourceSerializer

MAX_STOPS = 4  # OpenAI's own limit
MAX_STOP_CHARS = 100
SMALLEST_TOP_P = 0.01  # OpenAI takes 0, which vLLM and TGI refuse
MAX_INPUTS = 2048  # OpenAI's own limit
MAX_INPUT_CHARS = 32_000  # about OpenAI's 8,192 tokens
_TOKENS = (
    "Send text: token numbers mean something to one vocabulary only, which is not this model's. "
    "In LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False)."
)


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
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
    include_usage = serializers.BooleanField(
        required=False, allow_null=True, help_text="Send a last chunk with the usage and no choices."
    )


class ChatSerializer(serializers.Serializer[Any]):
    """Fields that are not listed are ignored; so are tools, which assistants do not call."""

    model = serializers.CharField(max_length=200, help_text="The assistant's slug or id.")
    messages = MessagesField()
    stream = serializers.BooleanField(required=False, allow_null=True)
    stream_options = StreamOptionsSerializer(required=False, allow_null=True)
    max_completion_tokens = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, help_text="At most what the assistant allows."
    )
    max_tokens = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, help_text="The older name of max_completion_tokens."
    )
    temperature = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=2)
    top_p = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=1)
    stop = StopField(required=False, allow_null=True)
    n = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=1,
        error_messages={"max_value": "A question has one answer here."},
    )
    response_format = serializers.DictField(
        required=False, allow_null=True, help_text='Only `{"type": "text"}` can be promised.'
    )
    user = serializers.CharField(
        max_length=200, required=False, allow_blank=True, allow_null=True, help_text="Your name for the end user."
    )

    def validate_response_format(self, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and value.get("type") != "text":
            raise serializers.ValidationError("Answers are text; no other format can be promised.")
        return value


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
        top_p=max(top_p, SMALLEST_TOP_P) if top_p < 1 else None,  # 1 cuts nothing off, and TGI refuses it
        stop=given.get("stop", ()),
    )
    return Asked(
        model=given["model"],
        # The text as it came: the one that was checked lost the blanks around it.
        question=replace(plain, history=talk.history, instructions=talk.instructions, sampling=sampling),
        stream=given.get("stream", False),
        include_usage=bool((given.get("stream_options") or {}).get("include_usage")),
    )


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
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

    model = serializers.CharField(max_length=200, help_text="An embedding endpoint's model, or its name.")
    input = InputField()
    encoding_format = serializers.ChoiceField(["float", "base64"], required=False, allow_null=True)
    dimensions = serializers.IntegerField(
        required=False, allow_null=True, help_text="Refused unless it is the model's own."
    )
    input_type = serializers.ChoiceField(
        ["passage", "query"],
        required=False,
        allow_null=True,
        help_text="Not OpenAI's: what the texts are, for models that embed questions differently. passage unless told.",
    )
    user = serializers.CharField(
        max_length=200, required=False, allow_blank=True, allow_null=True, help_text="Your name for the end user."
    )


# --- What is answered: for the OpenAPI schema alone, since answers are written as bytes -------------------------------


class _Shape(serializers.Serializer[Any]):
    pass


class OpenAIErrorDetailSerializer(_Shape):
    message = serializers.CharField()
    type = serializers.ChoiceField(
        ["invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"]
    )
    param = serializers.CharField(allow_null=True, help_text="The first rejected field.")
    code = serializers.CharField(help_text="Stable, the same as in the rest of the API.")
    request_id = serializers.CharField()
    turn = serializers.CharField(required=False)
    retry_after = serializers.FloatField(required=False, help_text="Seconds.")
    fields = serializers.DictField(child=serializers.CharField(), required=False)  # type: ignore[assignment]


class OpenAIErrorSerializer(_Shape):
    """OpenAI's envelope around the one error body that this API has."""

    error = OpenAIErrorDetailSerializer()


class TokensSerializer(_Shape):
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()


class AnswerTimingsSerializer(_Shape):
    """Milliseconds since the question was accepted."""

    search_ms = serializers.FloatField(allow_null=True)
    first_token_ms = serializers.FloatField(allow_null=True)
    total_ms = serializers.FloatField(allow_null=True)


class ExtensionSerializer(_Shape):
    """Not OpenAI's: what Parley knows of an answer beyond its text."""

    turn = serializers.CharField()
    state = serializers.ChoiceField(["finished", "stopped"])
    finish_reason = serializers.CharField(help_text="stop, length, stopped, sources_only or the model server's word.")
    sources = SourceSerializer(many=True)
    citations = SourceSerializer(many=True)
    timings = AnswerTimingsSerializer()
    usage_estimated = serializers.BooleanField()


class AnswerMessageSerializer(_Shape):
    role = serializers.ChoiceField(["assistant"])
    content = serializers.CharField()
    refusal = serializers.CharField(allow_null=True)
    parley = ExtensionSerializer()


class ChoiceSerializer(_Shape):
    index = serializers.IntegerField()
    message = AnswerMessageSerializer()
    logprobs = serializers.JSONField(allow_null=True)
    finish_reason = serializers.ChoiceField(["stop", "length", "content_filter"])


class CompletionSerializer(_Shape):
    id = serializers.CharField(help_text="chatcmpl- and the turn's id.")
    object = serializers.ChoiceField(["chat.completion"])
    created = serializers.IntegerField()
    model = serializers.CharField()
    system_fingerprint = serializers.CharField(allow_null=True)
    choices = ChoiceSerializer(many=True)
    usage = TokensSerializer()


class ModelSerializer(_Shape):
    id = serializers.CharField(help_text="The assistant's slug.")
    object = serializers.ChoiceField(["model"])
    created = serializers.IntegerField()
    owned_by = serializers.CharField(help_text="The tenant's slug.")
    name = serializers.CharField()
    description = serializers.CharField()


class ModelsSerializer(_Shape):
    object = serializers.ChoiceField(["list"])
    data = ModelSerializer(many=True)  # type: ignore[assignment]


class EmbeddingSerializer(_Shape):
    object = serializers.ChoiceField(["embedding"])
    index = serializers.IntegerField()
    embedding = serializers.JSONField(help_text="Numbers, or the base64 of little-endian 32-bit floats.")


class EmbeddingUsageSerializer(_Shape):
    prompt_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()


class EmbeddingsAnswerSerializer(_Shape):
    object = serializers.ChoiceField(["list"])
    data = EmbeddingSerializer(many=True)  # type: ignore[assignment]
    model = serializers.CharField()
    usage = EmbeddingUsageSerializer()
