"""The outermost middleware: request ids and metrics, and the short way for streaming routes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import structlog
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.decorators import async_only_middleware

from apps.edge import metrics, tracing
from apps.edge.errors import ELSEWHERE, handler400, json_error
from apps.edge.request_ids import accept_request_id

log = structlog.get_logger(__name__)
View = TypeVar("View", bound=Callable[..., Any])
# The last three because their addresses hold tokens, which set a password, open a tenant or show a conversation.
QUIET = ("/healthz/", "/metrics", "/static/", "/admin/password_reset/", "/invitations/", "/share/")
# A client may invent methods, and each label of a counter stays in memory for good.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def ahead_of_middleware(view: View) -> View:
    """Mark an async view that authenticates by itself and needs no session: the rest of the middleware, which costs a
    thread hop each, is not run for it."""
    view.ahead_of_middleware = True  # type: ignore[attr-defined]
    view.csrf_exempt = True  # type: ignore[attr-defined]
    return view


@async_only_middleware
def front_door(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    async def middleware(request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        request_id = accept_request_id(request.headers.get("X-Request-Id"))
        method = request.method if request.method in METHODS else "other"
        with _span(request, method) as span:
            response = handler400(request, ValueError()) if _bears_nul(request) else await get_response(request)
            span.set_attribute("http.response.status_code", response.status_code)
            if match := request.resolver_match:
                span.update_name(f"{method} {match.route}")
                span.set_attribute("http.route", match.route)
        response["X-Request-Id"] = request_id
        if "X-Parley-Elsewhere" not in request.headers:
            response.headers.pop(ELSEWHERE, None)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        elapsed = time.perf_counter() - started
        metrics.REQUESTS.labels(method, str(response.status_code)).inc()
        metrics.REQUEST_SECONDS.observe(elapsed)
        if not request.path.startswith(QUIET):
            log.info(
                "request.finished",
                method=method,
                path=request.path[:200],
                status=response.status_code,
                ms=round(elapsed * 1000, 1),
            )
        return response

    return middleware


@async_only_middleware
def short_way(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    async def middleware(request: HttpRequest) -> HttpResponseBase:
        try:
            match = resolve(request.path_info)
        except Resolver404:
            return await get_response(request)
        if not getattr(match.func, "ahead_of_middleware", False):
            return await get_response(request)
        request.resolver_match = match
        try:
            response: HttpResponseBase = await match.func(request, *match.args, **match.kwargs)
        except Exception as error:  # noqa: BLE001 - the boundary: translate() logs what nobody foresaw
            return json_error(error)
        return response

    return middleware


def _span(request: HttpRequest, method: str) -> AbstractContextManager[Any]:
    """The request's, which begins a trace: clients are not asked for theirs, or anybody could have all of them kept."""
    if request.path.startswith(QUIET):
        return nullcontext(tracing.NOTHING)
    return tracing.span(method, "SERVER", http__request__method=method)


def _bears_nul(request: HttpRequest) -> bool:
    """Whether a parameter or a cookie holds a NUL: PostgreSQL refuses them even in a comparison, so they are refused
    here for every view. JSON, forms and frames are checked where they are read."""
    return "%00" in request.META["QUERY_STRING"] or any("\0" in value for value in request.COOKIES.values())
