"""What views say of their errors in the OpenAPI schema; apps/edge/openapi.py adds what is alike for every route."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers


class LimitSerializer(serializers.Serializer[Any]):
    """A limit that was reached."""

    name = serializers.CharField(help_text="The same as in RateLimit-Policy.")
    limit = serializers.FloatField(help_text="How many it allows, or how much money.")
    remaining = serializers.FloatField(help_text="How many are left.")
    reset = serializers.IntegerField(
        allow_null=True, help_text="Seconds until all of them are there again; null where waiting does not help."
    )


class ErrorSerializer(serializers.Serializer[Any]):
    """Every error, whatever its status."""

    code = serializers.CharField(help_text="Stable; programs may rely on it.")
    message = serializers.CharField(help_text="A sentence for a person.")
    request_id = serializers.CharField(help_text="The same as X-Request-Id; log lines carry it.")
    turn = serializers.CharField(required=False, help_text="The turn that failed; its question is kept.")
    retry_after = serializers.FloatField(required=False, help_text="Seconds after which asking again may succeed.")
    fields = serializers.DictField(  # type: ignore[assignment]
        child=serializers.CharField(), required=False, help_text="What is wrong with which input."
    )
    limit = LimitSerializer(required=False, help_text="Of a 429: which limit was reached.")


MEANINGS = {
    400: "The request is not valid; `fields` says why.",
    401: "No valid credentials.",
    403: "The credentials lack the scope that this takes.",
    404: "There is no such thing, or it is not yours.",
    406: "`Accept` names no type that this address answers with.",
    413: "The body is larger than allowed.",
    415: "The body's content type, or the kind of file, is not read here.",
    422: "The idempotency key was used for a different request.",
    429: "Too many requests, or a quota is used up; `retry_after` says when to ask again.",
    500: "An error of Parley's own; it was logged under the request id.",
    503: "Parley or its model servers cannot answer now; `retry_after` says when to ask again.",
}
# Of any route. What follows from a route's shape is added by itself: 404 where a path holds an id, 413 where there is
# a body, and so on.
ERRORS: dict[int, OpenApiResponse] = {
    status: OpenApiResponse(ErrorSerializer, MEANINGS[status]) for status in (400, 401, 500, 503)
}
# A route with it has a status for a key that stands for something else, and tells what is a repeat.
USER = OpenApiParameter("user", str, description="Your name for an end user: 404 unless it is theirs.")
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "maxLength": 200},
    OpenApiParameter.HEADER,
    description="Your name for this request: sent again within 24 hours, it is answered as the first time.",
)
MISSING = {404: OpenApiResponse(ErrorSerializer, MEANINGS[404])}  # where the body names something
CONFLICT = {
    409: OpenApiResponse(ErrorSerializer, "The conversation is still answering its previous question."),
    422: OpenApiResponse(ErrorSerializer, MEANINGS[422]),
    502: OpenApiResponse(ErrorSerializer, "The model server failed."),
    504: OpenApiResponse(ErrorSerializer, "The model server took too long."),
}
UPLOADS = {
    413: OpenApiResponse(ErrorSerializer, "Larger than allowed."),
    507: OpenApiResponse(ErrorSerializer, "No room left to store this."),
}
