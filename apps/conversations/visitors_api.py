"""REST: tokens for visitors, asked for by a tenant's server, by a page of a listed site, or to go on with a visit."""

from __future__ import annotations

import time
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

from apps.access import cors, identities, rates, tickets, visitors
from apps.access.authentication import Caller, credential_of
from apps.access.doors import Door, read_body
from apps.access.rates import Rate
from apps.access.visitors import Token, Visit
from apps.assistants.models import Assistant
from apps.conversations import identifying
from apps.conversations.parties import assistant_of
from apps.edge.errors import json_error
from apps.edge.fields import Number, Text
from apps.edge.middleware import ahead_of_middleware
from apps.edge.origins import LONGEST, origin_in, origin_of
from apps.edge.schema import ERRORS, MEANINGS, ErrorSerializer
from apps.tenants.scoping import unit
from apps.widget.entrance import place_of
from chatbot.errors import InvalidRequest, NotFound, NotPermitted, ParleyError, RateLimited

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


class PageVisitorSerializer(serializers.Serializer[Any]):
    """Who comes back, or who they are. Sent as `text/plain` a browser needs no preflight for it."""

    ticket = Text(max_length=tickets.LONGEST, required=False, default="", allow_blank=True, help_text="An earlier one.")
    identity = Text(
        max_length=identities.LONGEST,
        required=False,
        default="",
        allow_blank=True,
        help_text="A JSON Web Token (HS256) by your own server: `sub`, `exp` at most an hour away.",
    )


class PageVisitorTokenSerializer(VisitorTokenSerializer):
    """The same, and what lets this visitor come back."""

    ticket = serializers.CharField(help_text="To be kept, and given with the next visit from the same origin.")


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
        request=PageVisitorSerializer,
        auth=[],
        parameters=[ORIGIN],
        responses={201: PageVisitorTokenSerializer, **ERRORS, **OFTEN},
    )
    async def post(self, request: HttpRequest, tenant: str, assistant: str) -> HttpResponseBase:
        """Let a visitor in, without a key. For pages of the web sites that the assistant lists; others get 401.

        Without a body it is a new visitor. A `ticket` goes on with an earlier one, an `identity` says who it is.
        """
        try:
            place = await place_of(request, tenant, assistant, rate=PAGES, what="visitors")
        except RateLimited as error:
            return await _readable(json_error(error), origin_of(request))
        try:
            asked = _asked(request)
            entered = await unit(identifying.enter, place, **asked, address=request.META.get("REMOTE_ADDR", ""))
            visit = Visit(
                tenant_id=place.tenant_id,
                assistant_id=place.assistant_id,
                origin=place.origin,
                visitor=entered.visitor,
                began=time.time(),
            )
            response = _told(await visitors.mint(visit), ticket=tickets.write(entered))
        except ParleyError as error:
            response = json_error(error)
        return cors.allow(response, place.origin)

    async def preflight(self, request: HttpRequest, tenant: str, assistant: str) -> HttpResponseBase:
        place = await place_of(request, tenant, assistant, rate=PAGES, what="visitors")
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


def _asked(request: HttpRequest) -> dict[str, str]:
    """What a page says of its visitor. Raises InvalidRequest. A body of another type is none: there was no such body
    once, and old pages send what they like."""
    if request.content_type not in {"text/plain", "application/json"} or not request.body:
        return {"ticket": "", "identity": ""}
    try:
        said = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The request's body is not valid JSON.") from error
    if not isinstance(said, dict):
        raise InvalidRequest("The request's body is not a JSON object.")
    ticket = said.get("ticket")
    # Whatever is wrong with a ticket, it begins a new visitor.
    serializer = PageVisitorSerializer(data={"identity": said.get("identity") or ""})
    serializer.is_valid(raise_exception=True)
    return {"ticket": ticket if isinstance(ticket, str) else "", "identity": serializer.validated_data["identity"]}


async def _readable(response: HttpResponseBase, origin: str) -> HttpResponseBase:
    """A refusal for a page whose site has had visitors lately, which may know how long to wait."""
    return cors.allow(response, origin) if origin and await visitors.knows(origin) else response


def _told(token: Token, *, ticket: str = "") -> HttpResponse:
    body = {"token": token.text, "expires_at": token.expires_at, "renew_after": token.renew_after}
    shown = PageVisitorTokenSerializer({**body, "ticket": ticket}).data if ticket else VisitorTokenSerializer(body).data
    return JsonResponse(dict(shown), status=201, headers={"Cache-Control": "no-store"})


urlpatterns = [
    path("visitors", Visitors.as_view()),
    path("visitors/renew", Renewal.as_view()),
    path("visitors/<str:tenant>/<str:assistant>", PageVisitors.as_view()),
]
