"""REST: tokens for visitors, asked for by a tenant's server, by a page of a listed site, or to go on with a visit."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

from apps.access import cors, rates, visitors
from apps.access.authentication import Caller, credential_of
from apps.access.doors import Door, read_body
from apps.access.rates import Rate
from apps.access.visitors import Token, Visit
from apps.assistants.models import Assistant
from apps.conversations.parties import assistant_of
from apps.edge.fields import Number, Text
from apps.edge.middleware import ahead_of_middleware
from apps.edge.origins import LONGEST, origin_in
from apps.edge.schema import ERRORS, MEANINGS, ErrorSerializer
from apps.tenants import lookups
from apps.tenants.models import slug_validator
from apps.tenants.scoping import platform_unit, tenant_scope, unit
from chatbot.errors import InvalidRequest, NotAuthenticated, NotFound, NotPermitted

# Of one assistant's visitors from one address: people in an office share one, and each page that opens wants a token.
PAGES = Rate(burst=30, every=2.0)
# A page renews when two thirds of a token's life are over; tabs of one visitor share a visit.
RENEWALS = Rate(burst=10, every=20.0)

FORBIDDEN = {403: OpenApiResponse(ErrorSerializer, "These credentials do not allow this.")}
OFTEN = {429: OpenApiResponse(ErrorSerializer, MEANINGS[429])}
ORIGIN = OpenApiParameter(
    "Origin", str, OpenApiParameter.HEADER, description="The page's own, as browsers send it.", required=True
)


class VisitorSerializer(serializers.Serializer[Any]):
    """Whom to let in, to which assistant, from where."""

    assistant = Text(max_length=64, help_text="The assistant's slug or id.")
    origin = Text(max_length=LONGEST, help_text="Of the pages that will use the token: `https://shop.example`.")
    user = Text(
        max_length=200,
        required=False,
        default="",
        allow_blank=True,
        help_text="Your name for the end user. Left out, it is a new one whom nobody else can be.",
    )
    seconds = Number(
        min_value=visitors.SHORTEST,
        max_value=visitors.LIFE,
        required=False,
        default=visitors.LIFE,
        help_text="How long each token lives.",
    )


class VisitorTokenSerializer(serializers.Serializer[Any]):
    """A visitor's credential, good for one assistant and from pages of one origin."""

    token = serializers.CharField(help_text="For `Authorization: Bearer`, or a socket's first frame.")
    expires_at = serializers.DateTimeField()
    renew_after = serializers.IntegerField(help_text="Seconds from now after which it is time for the next token.")


TOKEN = {201: VisitorTokenSerializer}


class Visitors(Door):
    scopes = {"POST": "chat:write"}
    visitors = False

    @extend_schema(request=VisitorSerializer, responses={**TOKEN, **ERRORS, **FORBIDDEN})
    async def post(self, request: HttpRequest, caller: Caller) -> HttpResponseBase:
        """Let a visitor in. For your own server, which knows who they are: the token goes to their page."""
        if caller.api_key_id is None:
            raise NotPermitted("Visitors are let in with an API key.")
        serializer = VisitorSerializer(data=read_body(request))
        serializer.is_valid(raise_exception=True)
        asked = serializer.validated_data
        assistant = await unit(_assistant, caller, asked["assistant"])
        visit = Visit(
            tenant_id=caller.tenant.pk,
            assistant_id=assistant.pk,
            origin=_origin(asked["origin"]),
            visitor=asked["user"] or visitors.anonymous(),
            began=time.time(),
            seconds=asked["seconds"],
            key_id=caller.api_key_id,
            scopes=visitors.SCOPES & caller.scopes,
            ends_with=caller.ends_with,
        )
        return _told(await visitors.mint(visit))


class PageVisitors(Door):
    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        refuse = super().as_view(**initkwargs)

        async def view(request: HttpRequest, **place: str) -> HttpResponseBase:
            if request.method == "POST":
                return await cls().post(request, **place)
            if cors.is_preflight(request):
                return await cls().preflight(request, **place)
            response: HttpResponseBase = await refuse(request, **place)
            return response

        view.cls = cls  # type: ignore[attr-defined]
        view.initkwargs = initkwargs  # type: ignore[attr-defined]
        return ahead_of_middleware(view)

    @extend_schema(
        operation_id="create_page_visitor",
        request=None,
        auth=[],
        parameters=[ORIGIN],
        responses={**TOKEN, **ERRORS, **OFTEN},
    )
    async def post(self, request: HttpRequest, tenant: str, assistant: str) -> HttpResponseBase:
        """Let a new visitor in, without a key. For pages of the web sites that the assistant lists; others get 401."""
        place = await _place_of(request, tenant, assistant)
        visit = Visit(
            tenant_id=place.tenant_id,
            assistant_id=place.assistant_id,
            origin=place.origin,
            visitor=visitors.anonymous(),
            began=time.time(),
        )
        return cors.allow(_told(await visitors.mint(visit)), place.origin)

    async def preflight(self, request: HttpRequest, tenant: str, assistant: str) -> HttpResponseBase:
        place = await _place_of(request, tenant, assistant)
        return cors.allow_requests(HttpResponse(status=204), place.origin)


class Renewal(Door):
    scopes = {"POST": "chat:write"}

    @extend_schema(
        operation_id="renew_visitor",
        request=None,
        parameters=[ORIGIN],
        responses={**TOKEN, **ERRORS, **FORBIDDEN, **OFTEN},
    )
    async def post(self, request: HttpRequest, caller: Caller) -> HttpResponseBase:
        """Go on with a visit: the next token, for the live one that the request bears. A visit ends after a day."""
        found = await visitors.visit_of(credential_of(request))
        if found is None:
            raise NotPermitted("Visitors alone renew their tokens.")
        visit, _ = found
        await rates.take(RENEWALS, "renewals", str(visit.tenant_id), visit.visitor)
        return _told(await visitors.mint(visit))


class _Place(NamedTuple):
    """Where a page may let its visitors in."""

    tenant_id: uuid.UUID
    assistant_id: uuid.UUID
    origin: str


async def _place_of(request: HttpRequest, tenant: str, assistant: str) -> _Place:
    """Raises NotAuthenticated, the same whatever is wrong, and RateLimited before anything is looked up."""
    address = rates.network_of(request.META.get("REMOTE_ADDR", ""))
    await rates.take(PAGES, "visitors", address, tenant, assistant)
    origin = request.headers.get("Origin", "")
    place = None
    with suppress(InvalidRequest, ValidationError):
        slug_validator(tenant)
        slug_validator(assistant)
        if origin_in(origin) == origin:
            place = await platform_unit(_place, tenant, assistant, origin)
    if place is None:
        raise NotAuthenticated
    return place


def _place(tenant: str, assistant: str, origin: str) -> _Place | None:
    # With an unknown tenant an unknown assistant is looked for, too, so that the time taken tells nothing.
    tenant_id = lookups.tenant_named(tenant) or uuid.uuid4()
    with tenant_scope(tenant_id):
        rows = Assistant.objects.for_tenant(tenant_id).filter(slug=assistant, is_active=True, tenant__is_active=True)
        found = rows.filter(visitor_origins__contains=[origin]).values_list("pk", flat=True).first()
    return _Place(tenant_id, found, origin) if found else None


def _assistant(caller: Caller, name: str) -> Assistant:
    try:
        return assistant_of(caller, name)
    except NotFound as error:
        raise InvalidRequest(fields={"assistant": error.message}) from error


def _origin(text: str) -> str:
    try:
        return origin_in(text)
    except InvalidRequest as error:
        raise InvalidRequest(fields={"origin": error.message}) from error


def _told(token: Token) -> HttpResponse:
    body = {"token": token.text, "expires_at": token.expires_at, "renew_after": token.renew_after}
    shown = VisitorTokenSerializer(body).data
    return JsonResponse(dict(shown), status=201, headers={"Cache-Control": "no-store"})


urlpatterns = [
    path("visitors", Visitors.as_view()),
    path("visitors/renew", Renewal.as_view()),
    path("visitors/<str:tenant>/<str:assistant>", PageVisitors.as_view()),
]
