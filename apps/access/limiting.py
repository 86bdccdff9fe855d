"""The rates of the edge: how much may come from one address and with one credential, whatever it asks for.

Both are taken in one round trip to Redis before anybody looks the credential up, so that guessing costs the guesser.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from django.conf import settings
from django.http import HttpRequest, parse_cookie
from django.http.response import HttpResponseBase
from django.utils.decorators import async_only_middleware

from apps.access import cors
from apps.access.authentication import address_of, credential_of
from apps.access.rates import Bucket, Rate, Verdict, network_of, take_all
from apps.edge import errors, metrics, ratelimit_headers, turnstile
from apps.edge.errors import ServiceUnavailable
from apps.edge.ratelimit_headers import Limit
from chatbot.errors import ParleyError, RateLimited

# Probes and scrapers; static files are served ahead of Django, and by nginx.
EXEMPT = ("/healthz/", "/metrics", settings.PARLEY_STATIC_PATH)
TOLD = ("/api/", "/v1/")
# A request that was answered 401 counts as so many more: it cost a look into the database, and may be a guess.
FAILURE = 9

# What goes on while Redis cannot count: reading, ending something, the admin's pages for those who are logged in, and
# asking: an answer stands in Redis from its first word on, so that a question is refused by itself then, and kept.
_READS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_UNCOUNTED = re.compile(
    r"/api/v1/turns/[^/]+/(stop|regenerate|continue)|/api/v1/conversations/[^/]+/turns|/v1/chat/completions"
    r"|/admin/(?!login|password_reset|security).*"
)
# What opens a turn, and steps aside when that is done.
_ASKS = re.compile(r"/api/v1/turns/[^/]+/(regenerate|continue)|/api/v1/conversations/[^/]+/turns|/v1/chat/completions")


def _rate(requests_a_minute: int, burst: int) -> Rate | None:
    return Rate(burst, 60 / requests_a_minute) if requests_a_minute else None


def _buckets(address: str, credential: str) -> list[Bucket]:
    found = []
    if rate := _rate(settings.PARLEY_ADDRESS_REQUESTS_A_MINUTE, settings.PARLEY_ADDRESS_BURST):
        found.append(Bucket("address", rate, (network_of(address),)))
    rate = _rate(settings.PARLEY_CREDENTIAL_REQUESTS_A_MINUTE, settings.PARLEY_CREDENTIAL_BURST)
    if rate and credential:
        found.append(Bucket("credential", rate, (credential,)))
    return found


async def count(address: str, credential: str) -> Verdict:
    """Count one request or frame from an address, with what was presented as a credential, right or wrong.

    Raises ServiceUnavailable while Redis is away.
    """
    buckets = _buckets(address, credential)
    verdict = await take_all(buckets) if buckets else Verdict([])
    if verdict.reached:
        metrics.TOO_MANY.labels(verdict.reached.name).inc()
    return verdict


async def count_failure(address: str) -> None:
    """A credential that came from there was refused."""
    if buckets := _buckets(address, ""):
        try:
            await take_all(buckets, cost=FAILURE, forced=True)
        except ServiceUnavailable:
            return  # the refusal itself stands


@async_only_middleware
def limited(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.path.startswith(EXEMPT):
            return await get_response(request)
        limits: list[Limit] = []
        refusal: ParleyError | None
        try:
            limits, *_ = verdict = await count(address_of(request), presented_by(request))
            refusal = verdict.refusal
        except ServiceUnavailable as unavailable:
            refusal = None if goes_uncounted(request.method or "", request.path) else unavailable
        response = await (_refuse(request, refusal) if refusal else _in_turn(request, get_response))
        if response.status_code == errors.STATUS_OF_CODE["not_authenticated"]:
            await count_failure(address_of(request))
        if request.path.startswith(TOLD):
            ratelimit_headers.add(response, limits, path=request.path)
        return response

    return middleware


async def _in_turn(
    request: HttpRequest, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]
) -> HttpResponseBase:
    """The response, of a question once it is this caller's turn. Nothing waits for uploads and searches, which last."""
    if request.method != "POST" or not _ASKS.fullmatch(request.path):
        return await get_response(request)
    async with turnstile.passing(presented_by(request) or network_of(address_of(request))):
        return await get_response(request)


async def _refuse(request: HttpRequest, error: ParleyError) -> HttpResponseBase:
    title = "Too many requests" if isinstance(error, RateLimited) else "This cannot be done just now"
    return await cors.let_read(request, errors.page(request, error, title))


def presented_by(request: HttpRequest) -> str:
    """What a request brings to say who it is: a key or token, another kind of Authorization, a session."""
    return (
        credential_of(request)
        or request.headers.get("Authorization", "")
        or request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    )


def session_in(cookies: str) -> str:
    """The same of the cookies that a WebSocket's handshake brought."""
    return parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME, "")


def goes_uncounted(method: str, path: str) -> bool:
    """Whether a request goes on while Redis cannot count it."""
    return method in _READS or _UNCOUNTED.fullmatch(path) is not None
