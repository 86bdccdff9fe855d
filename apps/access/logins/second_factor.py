"""Who must show a second factor, and the middleware that opens nothing else before they have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from allauth.account.internal.flows.login import get_authentication_records
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve, reverse
from django.utils.decorators import async_only_middleware

from apps.tenants.models import User

OFF, OPERATORS, EVERYBODY = "off", "operators", "everybody"
# What stays open to somebody who lacks one: setting one up, showing one, and leaving.
_OPEN = frozenset(
    {
        "mfa_activate_totp",
        "mfa_add_webauthn",
        "mfa_reauthenticate",
        "mfa_reauthenticate_webauthn",
        "account_reauthenticate",
        "set_up_second_factor",
        "logout",
    }
)
# They look at no session: programs call them, also from a browser that has one.
_WITHOUT_SESSIONS = ("/api/", "/v1/", "/static/", "/healthz/", "/metrics")


def is_required_of(user: User) -> bool:
    policy = settings.PARLEY_REQUIRE_SECOND_FACTOR
    return policy == EVERYBODY or (policy == OPERATORS and user.is_superuser)


def is_missing(request: Any, user: User) -> bool:
    """Whether this session may open nothing yet: its user needs a second factor and has not shown one in it."""
    if not is_required_of(user):
        return False
    return all(record.get("method") != "mfa" for record in get_authentication_records(request, user))


@async_only_middleware
def lead_to_second_factor(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if _may_lack_one(request):
            user = await request.auser()
            if isinstance(user, User) and is_missing(request, user) and not _stays_open(request):
                return HttpResponseRedirect(await _way_of(user, request.get_full_path()))
        return await get_response(request)

    return middleware


def _may_lack_one(request: HttpRequest) -> bool:
    """Without asking the session, which costs a query."""
    return (
        settings.PARLEY_REQUIRE_SECOND_FACTOR != OFF
        and settings.SESSION_COOKIE_NAME in request.COOKIES
        and not request.path.startswith(_WITHOUT_SESSIONS)
    )


def _stays_open(request: HttpRequest) -> bool:
    try:
        return resolve(request.path_info).url_name in _OPEN
    except Resolver404:
        return True


async def _way_of(user: User, where: str) -> str:
    """To the page where this user shows their second factor, or sets one up."""
    kinds = {kind async for kind in Authenticator.objects.filter(user=user).values_list("type", flat=True)}
    page = "set_up_second_factor"
    if Authenticator.Type.TOTP in kinds:
        page = "mfa_reauthenticate"
    elif Authenticator.Type.WEBAUTHN in kinds:
        page = "mfa_reauthenticate_webauthn"
    return f"{reverse(page)}?{urlencode({'next': where})}"
