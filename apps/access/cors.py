"""Cross-origin requests: pages of origins that have visitors may read what a visitor token is answered; no other may.

Browsers ask before they send (a preflight, which carries no token) and hide answers that do not name the page's origin.
Cookies take no part in it, and an API key's answers are for no page at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.decorators import async_only_middleware

from apps.access import visitors
from apps.access.authentication import credential_of

WHERE = "/api/v1/"
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id",
    "Access-Control-Max-Age": "600",
}
EXPOSED = "Idempotent-Replayed, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"


@async_only_middleware
def cross_origin(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if not request.path.startswith(WHERE):
            return await get_response(request)
        origin = request.headers.get("Origin", "")
        if is_preflight(request) and await visitors.knows(origin):
            response: HttpResponseBase = allow_requests(HttpResponse(status=204), origin)
        else:
            response = await let_read(request, await get_response(request))
        patch_vary_headers(response, ["Origin"])
        return response

    return middleware


async def let_read(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Let the page that sent the request read its answer, if it may."""
    origin = request.headers.get("Origin", "")
    if origin and credential_of(request).startswith(visitors.PREFIX) and await visitors.knows(origin):
        allow(response, origin)
    return response


def is_preflight(request: HttpRequest) -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def allow(response: HttpResponseBase, origin: str) -> HttpResponseBase:
    """Let pages of this origin read the response."""
    response["Access-Control-Allow-Origin"] = origin
    response["Access-Control-Expose-Headers"] = EXPOSED
    return response


def allow_requests(response: HttpResponseBase, origin: str) -> HttpResponseBase:
    """Let pages of this origin send what they asked about."""
    for name, value in PREFLIGHT.items():
        response[name] = value
    return allow(response, origin)
