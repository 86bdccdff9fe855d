"""The only table from our exceptions to HTTP statuses and WebSocket close codes, and the one shape that errors have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation, ValidationError
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from psycopg.errors import ForeignKeyViolation
from rest_framework import exceptions as drf
from rest_framework.response import Response

from apps.edge import ratelimit_headers
from apps.edge.request_ids import current_request_id
from chatbot import errors

log = structlog.get_logger(__name__)

TUS_VERSION = "1.0.0"  # of the protocol of resumable uploads

STATUS: dict[type[errors.ParleyError], int] = {
    errors.InvalidRequest: 400,
    errors.PromptTooLong: 400,
    errors.NotAuthenticated: 401,
    errors.NotPermitted: 403,
    errors.NotFound: 404,
    errors.TurnInProgress: 409,
    errors.OffsetConflict: 409,
    errors.PayloadTooLarge: 413,
    errors.UnsupportedType: 415,
    errors.IdempotencyConflict: 422,
    errors.ExtractionFailed: 422,
    errors.QuotaExceeded: 429,
    errors.RateLimited: 429,
    errors.ModelFailed: 502,
    errors.ModelBusy: 503,
    errors.ModelUnavailable: 503,
    errors.ModelTimeout: 504,
    errors.StorageFull: 507,
}


class ServiceUnavailable(errors.ParleyError):
    """The database or Redis did not answer: nothing was accepted, so asking again is safe.

    elsewhere: this process is about to end and accepts nothing, but others do. nginx as shipped then asks another one.
    """

    code = "service_unavailable"
    default_message = "Parley cannot reach its own storage just now. Nothing was accepted; please try again."

    def __init__(self, message: str = "", *, elsewhere: bool = False, **more: Any) -> None:
        super().__init__(message, **more)
        self.elsewhere = elsewhere


class MethodNotAllowed(errors.ParleyError):
    code = "method_not_allowed"
    default_message = "This address does not answer that method."


class NotAcceptable(errors.ParleyError):
    code = "not_acceptable"
    default_message = "This address answers application/json, and text/event-stream where it streams."


class VersionNotSupported(errors.ParleyError):
    code = "version_not_supported"
    default_message = f"Resumable uploads speak version {TUS_VERSION} of tus here, and no other."


STATUS |= {ServiceUnavailable: 503, MethodNotAllowed: 405, NotAcceptable: 406, VersionNotSupported: 412}
# What nginx obeys, by the name of a location in deploy/nginx/server.conf. Sent only where that nginx asks for it
# (front_door): another one has no such location, and would make a 500 of it.
ELSEWHERE = "X-Accel-Redirect"
_CHALLENGE = 'Bearer realm="parley"'
STATUS_OF_CODE = {kind.code: status for kind, status in STATUS.items()}


def status_of(error: errors.ParleyError) -> int:
    """The HTTP status of an error; subclasses take their parent's."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def close_code_of(error: errors.ParleyError) -> int:
    """The code that a socket is closed with: 4000 + HTTP status, or 1011 for what is our own fault."""
    status = status_of(error)
    return 1011 if status == 500 else 4000 + status


def body_of(error: errors.ParleyError, *, turn: str | None = None) -> dict[str, Any]:
    """The one shape of an error: HTTP body, SSE `error` event and WebSocket frame."""
    body: dict[str, Any] = {"code": error.code, "message": error.message, "request_id": current_request_id()}
    if turn is not None:
        body["turn"] = turn
    if error.retry_after is not None:
        body["retry_after"] = error.retry_after
    if error.fields:
        body["fields"] = error.fields
    if error.limit:
        body["limit"] = error.limit
    return body


def whole_seconds(wait: float) -> str:
    """As the header Retry-After has them: rounded up, since whoever comes a moment too early is refused again."""
    return str(max(1, math.ceil(wait)))


def headers_of(error: errors.ParleyError) -> dict[str, str]:
    headers = ratelimit_headers.render(error.standing)
    if error.retry_after is not None:
        headers["Retry-After"] = whole_seconds(error.retry_after)
    if isinstance(error, errors.NotAuthenticated):
        headers["WWW-Authenticate"] = _CHALLENGE
    if isinstance(error, VersionNotSupported):
        headers["Tus-Version"] = TUS_VERSION
    if isinstance(error, ServiceUnavailable) and error.elsewhere:
        headers[ELSEWHERE] = "@elsewhere"
    return headers


# OpenAI's words for kinds of errors, where the status alone does not decide between its two general ones.
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# Seconds: OpenAI's own clients sleep inside the call for as long as they are told, which nobody expects of more.
_LONGEST_SILENT_WAIT = 20.0


def envelope_of(body: Mapping[str, Any], status: int) -> dict[str, Any]:
    """An error's body in OpenAI's envelope, for the addresses where its clients ask. They show `message` alone, so the
    rejected fields are named there, too."""
    fields: Mapping[str, str] = body.get("fields", {})
    said = [body["message"], *(f"{name}: {sentence}" if name else sentence for name, sentence in fields.items())]
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {**body, "message": " ".join(said), "type": kind, "param": next(iter(fields), None) or None}}


def openai_error(body: Mapping[str, Any], status: int) -> JsonResponse:
    """The same as a response, with the headers that OpenAI's clients read."""
    response = JsonResponse(envelope_of(body, status), status=status)
    if (wait := body.get("retry_after")) is not None:
        response["Retry-After"] = whole_seconds(wait)
        response["retry-after-ms"] = str(max(1, round(wait * 1000)))
        if wait > _LONGEST_SILENT_WAIT:
            response["x-should-retry"] = "false"
    if status == STATUS[errors.NotAuthenticated]:
        response["WWW-Authenticate"] = _CHALLENGE
    return response


# Exceptions of libraries, and the one of ours that says the same; the first match counts.
_FOREIGN: tuple[tuple[type[Exception], Callable[[Any], errors.ParleyError]], ...] = (
    (errors.ParleyError, lambda error: error),
    (drf.ValidationError, lambda error: errors.InvalidRequest(fields=_flat(error.detail))),
    (drf.ParseError, lambda _: errors.InvalidRequest("The request's body is not valid JSON.")),
    (drf.NotAuthenticated, lambda _: errors.NotAuthenticated()),
    (drf.AuthenticationFailed, lambda _: errors.NotAuthenticated()),
    (drf.PermissionDenied, lambda _: errors.NotPermitted()),
    (drf.NotFound, lambda _: errors.NotFound()),
    (Http404, lambda _: errors.NotFound()),
    (drf.MethodNotAllowed, lambda _: MethodNotAllowed()),
    (drf.NotAcceptable, lambda _: NotAcceptable()),
    (drf.UnsupportedMediaType, lambda _: errors.UnsupportedType("This address does not read that content type.")),
    (drf.Throttled, lambda error: errors.RateLimited(retry_after=error.wait)),
    (RequestDataTooBig, lambda _: errors.PayloadTooLarge("The request's body is too large.")),
    # Too many parameters, a malformed host or form: Django answers these 400, too, where it is the one to answer.
    (SuspiciousOperation, lambda _: errors.InvalidRequest("This request cannot be read.")),
    (ValidationError, lambda error: errors.InvalidRequest(fields={"": " ".join(error.messages)})),
)


def translate(error: Exception) -> errors.ParleyError:
    """Any exception as one of ours. What nobody foresaw is logged here, once, and becomes `internal`."""
    for foreign, ours in _FOREIGN:
        if isinstance(error, foreign):
            return ours(error)
    if isinstance(error, OperationalError | InterfaceError):
        log.error("database.unavailable", error=type(error).__name__)
        return ServiceUnavailable(retry_after=5)
    if isinstance(error, IntegrityError) and isinstance(error.__cause__, ForeignKeyViolation):
        log.info("database.row_gone")
        return errors.NotFound("Something that this needs was deleted at this very moment.")
    log.error("request.failed", exc_info=error)
    return errors.ParleyError()


def _flat(detail: Any, path: str = "") -> dict[str, str]:
    """DRF's nested error lists as one sentence a field, with dotted names for nested ones."""
    if isinstance(detail, Mapping):
        found: dict[str, str] = {}
        for name, inner in detail.items():
            here = "" if name == "non_field_errors" else str(name)
            found |= _flat(inner, ".".join(part for part in (path, here) if part))
        return found
    if isinstance(detail, list) and detail and isinstance(detail[0], Mapping | list):
        found = {}
        for position, inner in enumerate(detail):
            found |= _flat(inner, f"{path}.{position}" if path else str(position))
        return found
    return {path: " ".join(str(part) for part in detail) if isinstance(detail, list) else str(detail)}


def drf_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Every exception of a DRF view leaves in our shape."""
    ours = translate(error)
    return Response(body_of(ours), status=status_of(ours), headers=headers_of(ours))


def json_error(error: Exception, *, turn: str | None = None) -> JsonResponse:
    """The same for an async view."""
    ours = translate(error)
    return JsonResponse(body_of(ours, turn=turn), status=status_of(ours), headers=headers_of(ours))


def openai_refusal(error: Exception) -> JsonResponse:
    """The same in OpenAI's envelope."""
    ours = translate(error)
    response = openai_error(body_of(ours), status_of(ours))
    for name, value in (headers_of(ours) | ratelimit_headers.render_openai(ours.standing)).items():
        response.headers.setdefault(name, value)
    return response


def page(request: HttpRequest, error: errors.ParleyError, title: str) -> HttpResponse:
    """An error that Django itself or a middleware answers: a page for people in the admin, our body for programs."""
    if request.path.startswith("/v1/"):
        return openai_refusal(error)
    if not request.path.startswith("/admin/"):
        return json_error(error)
    context = {"title": title, "message": error.message, "request_id": current_request_id()}
    return HttpResponse(render_to_string("error.html", context), status=status_of(error), headers=headers_of(error))


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    return page(request, errors.InvalidRequest(), "This request cannot be read")


def handler403(request: HttpRequest, exception: Exception) -> HttpResponse:
    return page(request, errors.NotPermitted("You are not allowed to do this."), "Not allowed")


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    return page(
        request, errors.NotFound("It may have been deleted, or it is not yours to see."), "There is nothing here"
    )


def handler500(request: HttpRequest) -> HttpResponse:
    return page(request, errors.ParleyError(), "Something went wrong")
