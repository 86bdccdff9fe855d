"""Owners register applications in the admin, see the secret once, and end all tokens by deleting one."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apps.oauth.models import AccessToken, Application
from apps.tenants.models import AuditEntry
from apps.tenants.scoping import tenant_scope
from tests.apps.admin_world import World, logged_in, make_world

pytestmark = pytest.mark.django_db
ADD = "/admin/oauth/application/add/"
SERVICE: dict[str, Any] = {
    "name": "Nightly report",
    "authorization_grant_type": "client-credentials",
    "client_type": "confidential",
    "redirect_uris": "",
    "scopes": ["usage:read"],
}
SITE = {
    **SERVICE,
    "name": "Intranet",
    "authorization_grant_type": "authorization-code",
    "redirect_uris": "https://intranet.example/back\nhttp://127.0.0.1/back",
}


@pytest.fixture
def world() -> World:
    return make_world()


def registered(world: World, name: str) -> Application | None:
    with tenant_scope(world.acme):
        found: Application | None = Application.objects.filter(name=name).first()
        return found


def shown_to(client: Client, fields: dict[str, Any]) -> str:
    response = client.post(ADD, fields)
    assert response.status_code == 200
    return response.content.decode()


def test_the_secret_is_shown_once(world: World) -> None:
    client = logged_in(world.alice)
    page = shown_to(client, SERVICE)
    secret = re.search(r"parleys_[A-Za-z0-9]{43}", page)
    application = registered(world, "Nightly report")
    assert secret
    assert application
    assert application.client_id in page
    assert (application.created_by, application.scopes) == (world.alice, ["usage:read"])
    for address in (reverse("admin:oauth_application_changelist"),
                    reverse("admin:oauth_application_change", args=(application.pk,))):  # fmt: skip
        text = client.get(address).content.decode()
        assert application.client_id[:8] in text
        assert secret[0] not in text
        assert application.client_secret not in text


def test_a_public_application_has_no_secret(world: World) -> None:
    page = shown_to(logged_in(world.alice), {**SITE, "client_type": "public"})
    assert "parleys_" not in page
    assert "PKCE" in page
    application = registered(world, "Intranet")
    assert application
    assert application.client_secret == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"redirect_uris": ""},
        {"redirect_uris": "http://intranet.example/back"},
        {"redirect_uris": "http://localhost/back"},
        {"redirect_uris": "https://*.example/back"},
        {"redirect_uris": "https://a@intranet.example/back"},
        {"redirect_uris": "https://intranet.example/back#here"},
        {"redirect_uris": "https://intranet.example:99999/back"},
        {"redirect_uris": "javascript:alert(1)"},
        {"redirect_uris": "com.example.app:/back"},
        {"redirect_uris": "https://[::1/back"},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"name": ""},
        {"authorization_grant_type": "password"},
        {"authorization_grant_type": "client-credentials"},  # with addresses to come back to
        {"authorization_grant_type": "client-credentials", "client_type": "public", "redirect_uris": ""},
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(world: World, wrong: dict[str, Any]) -> None:
    page = shown_to(logged_in(world.alice), {**SITE, **wrong})
    assert "parleys_" not in page
    assert registered(world, "Intranet") is None


def test_only_owners_see_applications(world: World) -> None:
    for person in (world.bob, world.charlie):
        client = logged_in(person)
        application = registered(world, "acme application")
        assert application
        page = client.get(reverse("admin:oauth_application_change", args=(application.pk,)), follow=True)
        assert "acme application" not in page.content.decode()
    assert logged_in(world.bob).post(ADD, SERVICE).status_code == 403


def test_name_addresses_and_scopes_can_change_and_the_kind_cannot(world: World) -> None:
    client = logged_in(world.alice)
    shown_to(client, SITE)
    application = registered(world, "Intranet")
    assert application
    changed = {**SITE, "redirect_uris": "https://new.example/", "scopes": ["chat:read"], "client_type": "public"}
    assert client.post(reverse("admin:oauth_application_change", args=(application.pk,)), changed).status_code == 302
    secret = application.client_secret
    application = registered(world, "Intranet")
    assert application
    assert (application.redirect_uris, application.scopes) == ("https://new.example/", ["chat:read"])
    assert (application.client_type, application.client_secret) == ("confidential", secret)


def test_deleting_ends_the_tokens_and_is_recorded(world: World) -> None:
    client = logged_in(world.alice)
    shown_to(client, SERVICE)
    application = registered(world, "Nightly report")
    assert application
    with tenant_scope(world.acme):
        AccessToken.objects.create(application=application, token_checksum="x", expires="2099-01-01T00:00:00Z")
    response = client.post(reverse("admin:oauth_application_delete", args=(application.pk,)), {"post": "yes"})
    assert response.status_code == 302
    with tenant_scope(world.acme):
        assert not AccessToken.objects.exists()
        actions = AuditEntry.objects.filter(row_label="Nightly report").order_by("seq").values_list("action", flat=True)
        assert list(actions) == ["application.registered", "application.deleted"]
