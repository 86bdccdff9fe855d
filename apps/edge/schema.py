"""What the OpenAPI schema says of errors: one shape, listed on every route."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers


class ErrorSerializer(serializers.Serializer[Any]):
    """Every error, whatever its status."""

    code = serializers.CharField(help_text="Stable; programs may rely on it.")
    message = serializers.CharField(help_text="A sentence for a person.")
    request_id = serializers.CharField()
    turn = serializers.CharField(required=False, help_text="The turn that failed; its question is kept.")
    retry_after = serializers.FloatField(required=False, help_text="Seconds.")
    fields = serializers.DictField(child=serializers.CharField(), required=False)  # type: ignore[assignment]


_MEANINGS = {
    400: "The request is not valid; `fields` says why.",
    401: "No valid credentials.",
    403: "The credentials do not allow this.",
    404: "There is no such thing, or it is not yours.",
    415: "Not a content type that is read here.",
    429: "Too many requests, or a quota is used up.",
    503: "Parley or its model servers cannot answer now; `retry_after` says when to ask again.",
}
ERRORS: dict[int, OpenApiResponse] = {
    status: OpenApiResponse(ErrorSerializer, meaning) for status, meaning in _MEANINGS.items()
}
CONFLICT = {
    409: OpenApiResponse(ErrorSerializer, "The conversation is still answering its previous question."),
    422: OpenApiResponse(ErrorSerializer, "The idempotency key was used for a different request."),
    502: OpenApiResponse(ErrorSerializer, "The model server failed."),
    504: OpenApiResponse(ErrorSerializer, "The model server took too long."),
}
UPLOADS = {
    413: OpenApiResponse(ErrorSerializer, "Larger than allowed."),
    507: OpenApiResponse(ErrorSerializer, "No room left to store this."),
}
