"""What every route must be: authenticated unless it is on the public list, and streaming routes ahead of middleware."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.test import AsyncClient, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.module_loading import import_string

from apps.edge.errors import handler404

PUBLIC = {"", "favicon.ico", "api/schema", "api/docs", "healthz/live", "healthz/ready", "metrics"}
# They have clients and people authenticate in other ways than the API: see tests/apps/oauth.
PUBLIC |= {f"oauth/{page}" for page in ("authorize", "token", "revoke", "introspect")}
PUBLIC |= {".well-known/oauth-authorization-server"}
# What they hold is shown to whoever has the link: see tests/apps/access/test_invitations.py.
PUBLIC |= {f"invitations/{page}" for page in ("opened/", "account/", "<str:token>/")}
# They are for browsers, and show what their operator or a reader made public: see tests/apps/widget.
PUBLIC |= {"widget.js", "widget/logo/<str:digest>", "chat/<str:tenant>/<str:assistant>/", "share/<str:token>"}
STREAMING = {
    "api/v1/conversations/<uuid:conversation_id>/turns",
    "api/v1/turns/<uuid:turn_id>",
    "api/v1/turns/<uuid:turn_id>/events",
    "api/v1/turns/<uuid:turn_id>/stop",
    "api/v1/turns/<uuid:turn_id>/regenerate",
    "api/v1/turns/<uuid:turn_id>/continue",
    "api/v1/documents/<uuid:document_id>/events",
    "api/v1/visitors",
    "api/v1/visitors/renew",
    "api/v1/visitors/<str:tenant>/<str:assistant>",
    "api/v1/widget/<str:tenant>/<str:assistant>",
    "api/v1/conversations/<uuid:conversation_id>/share",
    "api/v1/conversations/<uuid:conversation_id>/handoff",
    "widget.js",
    "chat/<str:tenant>/<str:assistant>/",
    "share/<str:token>",
    "v1/chat/completions",
    "v1/embeddings",
}


def walk(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from walk(pattern.url_patterns, route)
        else:
            yield route, pattern


ROUTES = dict(walk(get_resolver().url_patterns))
OURS = {route: pattern for route, pattern in ROUTES.items() if not route.startswith("admin/")}


def test_streaming_routes_run_ahead_of_middleware() -> None:
    for route in STREAMING:
        assert getattr(ROUTES[route].callback, "ahead_of_middleware", False), route


def test_what_runs_ahead_of_them_is_async() -> None:
    """A sync middleware would cost each of them a hop into a thread."""
    ahead = [
        "apps.edge.middleware.front_door",
        "apps.access.limiting.limited",
        "apps.access.cors.cross_origin",
        "apps.edge.middleware.short_way",
    ]
    assert settings.MIDDLEWARE[: len(ahead)] == ahead
    for name in ahead:
        middleware = import_string(name)
        assert (middleware.async_capable, middleware.sync_capable) == (True, False), name


@pytest.mark.parametrize("route", sorted(set(OURS) - PUBLIC))
async def test_no_route_answers_without_credentials(database: None, route: str) -> None:
    path = "/" + route
    for kind in (
        "<uuid:conversation_id>",
        "<uuid:turn_id>",
        "<uuid:document_id>",
        "<uuid:message_id>",
        "<uuid:attachment_id>",
        "<uuid:webhook_id>",
        "<uuid:source_id>",
        "<uuid:upload_id>",
    ):
        path = path.replace(kind, str(uuid.uuid4()))
    for kind in ("<str:key>", "<str:tenant>", "<str:assistant>", "<path:model>", "<path:rest>"):
        path = path.replace(kind, "some")
    assert "<" not in path, f"teach this test to fill {route}"
    statuses = {
        (await AsyncClient().generic(method, path, "{}", content_type="application/json")).status_code
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
    }
    assert 401 in statuses
    assert statuses <= {401, 405}


async def test_the_admin_asks_for_a_login(database: None) -> None:
    response = await AsyncClient().get("/admin/")
    assert (response.status_code, response["Location"]) == (302, "/admin/login/?next=/admin/")


async def test_probes_answer(database: None) -> None:
    assert (await AsyncClient().get("/healthz/live")).status_code == 200
    ready = await AsyncClient().get("/healthz/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ok"})
    metrics = await AsyncClient().get("/metrics")
    assert b"parley_http_requests_total" in metrics.content


async def test_an_unknown_address_has_an_error_body(database: None) -> None:
    response = await AsyncClient().get("/nowhere")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_people_in_the_admin_get_a_page() -> None:
    error = handler404(RequestFactory().get("/admin/nowhere"), Exception())
    assert (error.status_code, error["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert b"There is nothing here" in error.content
