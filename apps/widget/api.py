"""What pages of other web sites load: the loader, an assistant's settings, its logo; and the hosted page."""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Any, NamedTuple

import orjson
from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

from apps.access import cors, rates
from apps.access.doors import Guarded
from apps.access.rates import Rate
from apps.assistants.models import Assistant
from apps.edge.errors import MethodNotAllowed, json_error, translate
from apps.edge.middleware import ahead_of_middleware
from apps.edge.schema import ERRORS, MEANINGS, ErrorSerializer
from apps.tenants import lookups
from apps.tenants.models import slug_validator
from apps.tenants.scoping import platform_unit, tenant_scope, unit
from apps.widget import bundle, pages
from apps.widget.dressing import settings_of
from apps.widget.entrance import Place, place_of
from apps.widget.logos import CACHED, type_of
from apps.widget.models import Widget, widget_of
from chatbot.errors import NotAuthenticated, NotFound, ParleyError, RateLimited

# Of one assistant from one address: each page that opens the widget asks once.
LOADS = Rate(burst=60, every=1.0)
DIGEST = re.compile(r"[0-9a-f]{64}")


class ThemeSerializer(serializers.Serializer[Any]):
    primary = serializers.CharField(help_text="`#rrggbb`.")
    radius = serializers.IntegerField(help_text="Pixels.")
    font = serializers.CharField(help_text="A font family that is installed; empty for the system's.")
    logo = serializers.CharField(help_text="An address on Parley's own origin, or empty.")
    position = serializers.ChoiceField(["right", "left"])
    scheme = serializers.ChoiceField(["auto", "light", "dark"])


class ConsentSerializer(serializers.Serializer[Any]):
    text = serializers.CharField()
    link = serializers.CharField()


class HandOffKindSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(["email", "webhook"])
    address = serializers.CharField(required=False, help_text="Of `email`.")


class WidgetAttachmentsSerializer(serializers.Serializer[Any]):
    most = serializers.IntegerField(help_text="Files of one question.")
    bytes = serializers.IntegerField(help_text="Of one file.")
    kinds = serializers.ListField(child=serializers.CharField(), help_text="The ends of names that are readable.")


class WidgetSettingsSerializer(serializers.Serializer[Any]):
    """An assistant as its operator dressed it."""

    tenant = serializers.CharField()
    assistant = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    greeting = serializers.CharField()
    starters = serializers.ListField(child=serializers.CharField())
    theme = ThemeSerializer()
    locale = serializers.CharField(help_text="BCP 47.")
    direction = serializers.ChoiceField(["ltr", "rtl"])
    strings = serializers.DictField(child=serializers.CharField(), help_text="The operator's own wording, by key.")
    consent = ConsentSerializer(allow_null=True, help_text="To be agreed to before the first question.")
    retention = serializers.CharField(help_text="How long conversations are kept, in a sentence, or empty.")
    attachments = WidgetAttachmentsSerializer(allow_null=True, help_text="What may come with a question, if anything.")
    handoff = HandOffKindSerializer(allow_null=True)
    identity = serializers.BooleanField(help_text="Whether the page may say who its visitor is.")


class WidgetSettings(Guarded):
    """Async to Django, a view to the OpenAPI generator; the page's origin is all that it asks for."""

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        async def view(request: HttpRequest, **place: str) -> HttpResponseBase:
            if request.method not in {"GET", "HEAD"}:
                refusal = json_error(MethodNotAllowed())
                refusal["Allow"] = "GET"
                return refusal
            return await cls().get(request, **place)

        view.cls = cls  # type: ignore[attr-defined]
        view.initkwargs = initkwargs  # type: ignore[attr-defined]
        return ahead_of_middleware(view)

    @extend_schema(
        operation_id="get_widget",
        auth=[],
        parameters=[
            OpenApiParameter("Origin", str, OpenApiParameter.HEADER, description="The page's own.", required=True)
        ],
        responses={
            200: WidgetSettingsSerializer,
            **ERRORS,
            429: OpenApiResponse(ErrorSerializer, MEANINGS[429]),
        },
    )
    async def get(self, request: HttpRequest, tenant: str, assistant: str) -> HttpResponseBase:
        """How an assistant's widget looks and what it offers. For pages of the web sites that the assistant lists."""
        place = await place_of(request, tenant, assistant, rate=LOADS, what="widgets")
        body = orjson.dumps(await unit(_settings, place))
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"ETag": etag, "Cache-Control": "private, max-age=60", "Vary": "Origin"}
        if etag in request.headers.get("If-None-Match", ""):
            return cors.allow(HttpResponse(status=304, headers=headers), place.origin)
        return cors.allow(HttpResponse(body, content_type="application/json", headers=headers), place.origin)


def _settings(place: Place) -> dict[str, Any]:
    rows = Assistant.objects.for_tenant(place.tenant_id).select_related("tenant")
    assistant = rows.filter(pk=place.assistant_id).first()
    if assistant is None:  # deleted a moment ago
        raise NotAuthenticated
    return settings_of(assistant.tenant, widget_of(assistant))


@ahead_of_middleware
async def loader(request: HttpRequest) -> HttpResponseBase:
    """The script that a page names. It is the same for everybody and says nothing of anybody."""
    found = bundle.loader()
    if found is None:
        return json_error(NotFound(bundle.MISSING))
    headers = {
        "ETag": found.etag,
        "Cache-Control": "public, max-age=300",
        "Access-Control-Allow-Origin": "*",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    if found.etag in request.headers.get("If-None-Match", ""):
        return HttpResponse(status=304, headers=headers)
    return HttpResponse(found.script, content_type="text/javascript; charset=utf-8", headers=headers)


@ahead_of_middleware
async def logo(request: HttpRequest, digest: str) -> HttpResponseBase:
    """A logo, by the digest of its bytes, which nobody guesses."""
    content = await platform_unit(_logo, digest) if DIGEST.fullmatch(digest) else None
    kind = type_of(content) if content else None
    if content is None or kind is None:
        return json_error(NotFound())
    headers = {
        "Cache-Control": CACHED,
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    return HttpResponse(content, content_type=kind, headers=headers)


def _logo(digest: str) -> bytes | None:
    for tenant_id, widget_id in lookups.call("logo_of", digest):
        with tenant_scope(tenant_id):
            rows = Widget.objects.for_tenant(tenant_id).filter(pk=widget_id, tenant__is_active=True)
            stored = rows.values_list("logo", flat=True).first()
        try:
            with default_storage.open(stored or "") as file:
                return bytes(file.read())
        except OSError:
            continue
    return None


class _Hosted(NamedTuple):
    settings: dict[str, Any]
    framed_by: list[str]


@ahead_of_middleware
async def hosted_page(request: HttpRequest, tenant: str, assistant: str) -> HttpResponseBase:
    """An assistant by itself, at an address of its own."""
    address = rates.network_of(request.META.get("REMOTE_ADDR", ""))
    try:
        await rates.take(LOADS, "hosted", address)
        found = await platform_unit(_hosted, tenant, assistant)
    except RateLimited:
        return pages.too_often()
    except ParleyError as error:
        return pages.sorry(translate(error))
    if found is None:
        return pages.nothing_here()
    shown = found.settings
    return pages.page(
        title=shown["name"],
        locale=shown["locale"],
        direction=shown["direction"],
        embedded={"mode": "page", "settings": shown},
        said=f"{shown['name']} answers your questions here. Your browser has to allow JavaScript for it.",
        framed_by=found.framed_by,
    )


def _hosted(tenant: str, slug: str) -> _Hosted | None:
    try:
        slug_validator(tenant)
        slug_validator(slug)
    except ValidationError:
        return None
    # With an unknown tenant an unknown assistant is looked for, too, so that the time taken tells nothing.
    tenant_id = lookups.tenant_named(tenant) or uuid.uuid4()
    with tenant_scope(tenant_id):
        rows = Assistant.objects.for_tenant(tenant_id).select_related("tenant")
        assistant = rows.filter(slug=slug, is_active=True, tenant__is_active=True, widget__hosted=True).first()
        if assistant is None:
            return None
        widget = widget_of(assistant)
        return _Hosted(settings_of(assistant.tenant, widget), widget.framed_by())


urlpatterns = [
    path("widget.js", loader, name="widget_loader"),
    path("widget/logo/<str:digest>", logo, name="widget_logo"),
    path("chat/<str:tenant>/<str:assistant>/", hosted_page, name="hosted_page"),
    path("api/v1/widget/<str:tenant>/<str:assistant>", WidgetSettings.as_view()),
]
