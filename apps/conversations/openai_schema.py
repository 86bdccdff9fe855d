"""What /v1 answers, for the OpenAPI schema alone: the answers themselves are written as bytes."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from apps.conversations.openai_shapes import ModelNotFound
from apps.edge.errors import STATUS, body_of, envelope_of
from apps.edge.openapi import REQUEST_ID
from apps.edge.schema import LimitSerializer
from apps.knowledge.serializers import SourceSerializer
from chatbot.errors import ExtractionFailed, InvalidRequest, NotFound, ParleyError

TAGS = ["OpenAI"]
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Makes a repeat harmless: it gets the first one's answer, which goes on when its client leaves.",
)


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
    limit = LimitSerializer(required=False)


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
    degraded = serializers.ListField(child=serializers.CharField())


class ExtensionSerializer(_Shape):
    """Not OpenAI's: what Parley knows of an answer beyond its text."""

    turn = serializers.CharField()
    state = serializers.ChoiceField(["finished", "stopped"])
    finish_reason = serializers.CharField(
        help_text="stop, length, stopped, sources_only, nothing_found or the model server's word."
    )
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
    logprobs = serializers.CharField(allow_null=True, help_text="Always null.")
    finish_reason = serializers.ChoiceField(["stop", "length", "content_filter"])


class CompletionSerializer(_Shape):
    id = serializers.CharField(help_text="chatcmpl- and the turn's id.")
    object = serializers.CharField(help_text="Always `chat.completion`.")
    created = serializers.IntegerField()
    model = serializers.CharField()
    system_fingerprint = serializers.CharField(allow_null=True)
    choices = ChoiceSerializer(many=True)
    usage = TokensSerializer()


class ModelSerializer(_Shape):
    id = serializers.CharField(help_text="The assistant's slug.")
    object = serializers.CharField(help_text="Always `model`.")
    created = serializers.IntegerField()
    owned_by = serializers.CharField(help_text="The tenant's slug.")
    name = serializers.CharField()
    description = serializers.CharField()


class ModelsSerializer(_Shape):
    object = serializers.CharField(help_text="Always `list`.")
    data = ModelSerializer(many=True)  # type: ignore[assignment]


class EmbeddingSerializer(_Shape):
    object = serializers.CharField(help_text="Always `embedding`.")
    index = serializers.IntegerField()
    embedding = serializers.JSONField(help_text="Numbers, or the base64 of little-endian 32-bit floats.")


class EmbeddingUsageSerializer(_Shape):
    prompt_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()


class EmbeddingsAnswerSerializer(_Shape):
    object = serializers.CharField(help_text="Always `list`.")
    data = EmbeddingSerializer(many=True)  # type: ignore[assignment]
    model = serializers.CharField()
    usage = EmbeddingUsageSerializer()


# --- Refusals ---------------------------------------------------------------------------------------------------------

_MEANINGS = {
    400: "The request is not valid; `message` and `param` say why.",
    401: "No valid credentials.",
    403: "The credentials lack the scope that this takes.",
    404: "There is no such model.",
    413: "The body is larger than allowed.",
    415: "The body is not JSON.",
    422: "The idempotency key was used for a different request.",
    429: "Too many requests, or a quota is used up.",
    500: "An error of Parley's own; it was logged under the request id.",
    502: "The model server failed.",
    503: "Parley or its model servers cannot answer now.",
    504: "The model server took too long.",
}
_BODY = (400, 413, 415, 502, 504)


def _refusal(status: int) -> OpenApiResponse:
    """A status with an example of each code that has it."""
    kinds: list[type[ParleyError]] = [
        kind for kind, of in STATUS.items() if of == status and kind not in {ExtractionFailed, NotFound}
    ]
    examples = [
        OpenApiExample(kind.code, value=envelope_of(_body(kind, status), status))
        for kind in kinds or [ModelNotFound if status == STATUS[NotFound] else ParleyError]
    ]
    return OpenApiResponse(OpenAIErrorSerializer, _MEANINGS[status], examples=examples)


def _body(kind: type[ParleyError], status: int) -> dict[str, Any]:
    fields = {"messages": "The last message must be the user's."} if kind is InvalidRequest else None
    error = kind(fields=fields, retry_after=5.0 if status in {429, 503} else None)
    return {**body_of(error), "request_id": REQUEST_ID}


READING = {status: _refusal(status) for status in (400, 401, 403, 429, 500, 503)}
NAMING = {**READING, 404: _refusal(404)}
SENDING = {**NAMING, **{status: _refusal(status) for status in _BODY}}
ASKING = {**SENDING, 422: _refusal(422)}


# --- Examples ---------------------------------------------------------------------------------------------------------

_TURN = "6f4f2b1c-33a5-4b8e-9c0f-5f7b9a0e4d21"
_CREATED = 1774983550
_SOURCE = {
    "n": 1,
    "chunk": "8ff5fc63-7a0e-4f0a-9f3e-5d8c4f1b6a27",
    "document": "973bef4d-bd01-4a0f-9c36-a3c97faafc71",
    "title": "Pump manual",
    "heading": ["Spare parts"],
    "page": 12,
    "text": "The seal P-40 fits all pumps built since 2019.",
    "score": 0.0328,
}
_EXTENSION = {
    "turn": _TURN,
    "state": "finished",
    "finish_reason": "stop",
    "sources": [_SOURCE],
    "citations": [_SOURCE],
    "timings": {"search_ms": 6.1, "first_token_ms": 84.3, "total_ms": 611.0, "degraded": []},
    "usage_estimated": False,
}
_MODEL = {
    "id": "guide",
    "object": "model",
    "created": _CREATED,
    "owned_by": "pumpworks",
    "name": "Pump guide",
    "description": "Answers questions about our pumps from their manuals.",
}
_CHUNK = (
    f'data: {{"object":"chat.completion.chunk","id":"chatcmpl-{_TURN}","created":{_CREATED},"model":"guide",'
    '"system_fingerprint":null,"choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]%s}\n\n'
)

QUESTION = OpenApiExample(
    "question",
    request_only=True,
    value={
        "model": "guide",
        "messages": [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": "Which seal fits?"},
        ],
        "user": "customer-17",
    },
)
COMPLETION = OpenApiResponse(
    CompletionSerializer,
    "The whole answer.",
    examples=[
        OpenApiExample(
            "answer",
            value={
                "id": f"chatcmpl-{_TURN}",
                "object": "chat.completion",
                "created": _CREATED,
                "model": "guide",
                "system_fingerprint": None,
                "choices": [
                    {
                        "index": 0,
                        "message": {
                            "role": "assistant",
                            "content": "The seal P-40 [1].",
                            "refusal": None,
                            "parley": _EXTENSION,
                        },
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 747, "completion_tokens": 9, "total_tokens": 756},
            },
        )
    ],
)
CHUNKS = OpenApiResponse(
    {
        "type": "object",
        "required": ["data"],
        "properties": {
            "data": {"type": "string", "description": "A chat.completion.chunk, an error in its envelope, or `[DONE]`."}
        },
        "example": _CHUNK % ('{"role":"assistant","content":"","refusal":null}', "null", "")
        + _CHUNK % ('{"content":"The seal P-40 [1]."}', "null", "")
        + _CHUNK % ("{}", '"stop"', f',"parley":{{"turn":"{_TURN}"}}')
        + "data: [DONE]\n\n",
    },
    "With `stream`: chat.completion.chunk objects, then `[DONE]`. An error in mid-stream is the last event.",
)
MODEL = OpenApiResponse(ModelSerializer, "An assistant.", examples=[OpenApiExample("guide", value=_MODEL)])
MODELS = OpenApiResponse(
    ModelsSerializer,
    "The assistants.",
    examples=[OpenApiExample("guide", value={"object": "list", "data": [_MODEL]})],
)
TEXTS = OpenApiExample(
    "texts", request_only=True, value={"model": "e5", "input": ["Which seal fits?"], "input_type": "query"}
)
VECTORS = OpenApiResponse(
    EmbeddingsAnswerSerializer,
    "The vectors.",
    examples=[
        OpenApiExample(
            "vectors",
            value={
                "object": "list",
                "data": [{"object": "embedding", "index": 0, "embedding": [0.0123, -0.0456, 0.0789]}],
                "model": "e5",
                "usage": {"prompt_tokens": 5, "total_tokens": 5},
            },
        )
    ],
)
