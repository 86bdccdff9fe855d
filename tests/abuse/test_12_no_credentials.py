"""Without credentials every address answers 401 or asks for a login, unless it is on the public list."""

from __future__ import annotations

import re
import uuid

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.urls import resolve

from apps.tenants.scoping import platform_unit
from tests import factories
from tests.abuse.conftest import send
from tests.architecture.test_routes import ROUTES

# The rest of the API is walked in tests/architecture/test_routes.py.
PUBLIC_ADMIN = {"admin/login/", "admin/logout/"}
# tests/abuse/test_16_password_reset.py attacks these.
PUBLIC_ADMIN |= {f"admin/login/{page}" for page in ("code/", "passkey/", "sso/", "sso/callback/")}
PUBLIC_ADMIN |= {f"admin/password_reset/{page}" for page in ("", "sent/", "<uidb64>/<token>/", "done/")}


def address(route: str) -> str:
    path = route.replace("(?P<url>.*)$", "nowhere").replace("<path:content_type_id>", "1").replace("<int:pk>", "1")
    path = re.sub(r"\^\(\?P<app_label>(\w+)[^/]*\)/\$", r"\1/", path)
    return "/" + re.sub(r"<\w*:?\w+>", str(uuid.uuid4()), path)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_every_page_of_the_admin_asks_for_a_login(database: None, method: str) -> None:
    pages = {route for route in ROUTES if route.startswith("admin/")} - PUBLIC_ADMIN
    assert len(pages) > 50
    for route in pages:
        path = address(route)
        assert resolve(path).route == route.replace("admin/^", "admin/"), route
        answer = await send(method, path)
        # A POST of a stranger already lacks the CSRF token.
        login = answer.status == 302 and answer.headers["location"].startswith("/admin/login/")
        assert login or (method == "POST" and answer.status in {302, 403}), (route, answer)


async def test_stored_documents_have_no_address(database: None) -> None:
    name = default_storage.save("documents/tenant/file", ContentFile(b"secret"))
    for where in ("", "media/", "static/", "static/../media/", "static/..%2fmedia/"):
        path = f"/{where}{name}"
        answer = await send("GET", path)
        assert answer.status in {400, 404}, path
        assert b"secret" not in answer.body


async def test_a_public_page_tells_nothing_of_tenants(database: None) -> None:
    await platform_unit(factories.make_tenant, "acme")
    for path in ("/admin/login/", "/api/schema", "/api/docs", "/healthz/live", "/healthz/ready", "/metrics"):
        answer = await send("GET", path)
        assert answer.status == 200
        assert b"acme" not in answer.body.lower(), path
