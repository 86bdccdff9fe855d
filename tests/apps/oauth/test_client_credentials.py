"""A program that acts by itself gets tokens for its secret, and they open the same doors as an API key does."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from django.utils import timezone

from apps.oauth import bearers
from apps.oauth.models import AccessToken
from apps.tenants.scoping import tenant_scope
from tests.apps.oauth.clients import FORM, Client, make_service, status_of
from tests.factories import make_tenant

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
async def client(database: None) -> Client:
    bearers.forget()
    tenant = await sync_to_async(make_tenant)("acme")
    return Client(*await sync_to_async(make_service)(tenant, scopes=["chat:read", "knowledge:read"]))


async def test_a_service_gets_a_token_that_opens_the_api(client: Client) -> None:
    response = await client.token(grant_type="client_credentials")
    assert response.status_code == 200, response.content
    assert response["Cache-Control"] == "no-store"
    body = response.json()
    assert body["access_token"].startswith("parleyt_")
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 3600
    assert set(body["scope"].split()) == {"chat:read", "knowledge:read"}
    assert "refresh_token" not in body
    assert await status_of(body["access_token"]) == 200


async def test_nothing_readable_is_stored(client: Client) -> None:
    token = (await client.token(grant_type="client_credentials")).json()["access_token"]

    def stored() -> tuple[str, str, str]:
        with tenant_scope(client.application):
            client.application.refresh_from_db()
            row = AccessToken.objects.get()
            return client.application.client_secret, row.token, row.token_checksum

    secret, text, checksum = await sync_to_async(stored)()
    assert text == ""
    assert client.secret not in secret
    assert token not in checksum


async def test_the_secret_may_stand_in_the_body(client: Client) -> None:
    pair = {"client_id": client.application.client_id, "client_secret": client.secret}
    body = "&".join(f"{name}={value}" for name, value in {**pair, "grant_type": "client_credentials"}.items())
    response = await AsyncClient().post("/oauth/token", body, content_type=FORM)
    assert response.status_code == 200


async def test_fewer_scopes_can_be_asked_for_and_never_more(client: Client) -> None:
    narrow = (await client.token(grant_type="client_credentials", scope="chat:read")).json()
    assert narrow["scope"] == "chat:read"
    wide = await client.token(grant_type="client_credentials", scope="chat:read admin:*")
    assert (wide.status_code, wide.json()["error"]) == (400, "invalid_scope")


async def test_an_unknown_client_and_a_wrong_secret_are_told_the_same(client: Client) -> None:
    wrong = Client(client.application, "parleys_wrong")
    first = await wrong.token(grant_type="client_credentials")
    nobody = Client(client.application, client.secret)
    nobody.application = type(client.application)(client_id="nobody")
    second = await nobody.token(grant_type="client_credentials")
    assert first.status_code == second.status_code == 401
    assert first.json() == second.json() == {"error": "invalid_client"}
    assert first["WWW-Authenticate"] == second["WWW-Authenticate"] == 'Basic realm="parley"'


DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.mark.parametrize(
    ("grant", "error"),
    [
        ("password", "unsupported_grant_type"),
        ("implicit", "unsupported_grant_type"),
        (DEVICE, "unsupported_grant_type"),
        ("", "unsupported_grant_type"),
        ("authorization_code", "unauthorized_client"),
        ("refresh_token", "invalid_grant"),
    ],
)
async def test_no_other_grant_is_given(client: Client, grant: str, error: str) -> None:
    more = {"username": "alice@example.com", "password": "x", "code": "x", "refresh_token": "x", "device_code": "x"}
    response = await client.token(grant_type=grant, **more)
    assert (response.status_code, response.json()["error"]) == (400, error)


async def test_a_token_ends_when_its_hour_is_over(client: Client) -> None:
    token = (await client.token(grant_type="client_credentials")).json()["access_token"]

    def age() -> None:
        with tenant_scope(client.application):
            AccessToken.objects.update(expires=timezone.now() - datetime.timedelta(seconds=1))

    await sync_to_async(age)()
    assert await status_of(token) == 401


async def test_a_suspended_tenant_gets_none_and_its_tokens_open_nothing(client: Client) -> None:
    token = (await client.token(grant_type="client_credentials")).json()["access_token"]

    def suspend() -> None:
        with tenant_scope(client.application):
            client.application.tenant.is_active = False
            client.application.tenant.save()

    await sync_to_async(suspend)()
    assert (await client.token(grant_type="client_credentials")).json() == {"error": "invalid_client"}
    assert await status_of(token) == 401


async def test_what_the_application_may_is_what_its_tokens_may(client: Client) -> None:
    token = (await client.token(grant_type="client_credentials")).json()["access_token"]

    def narrow() -> None:
        with tenant_scope(client.application):
            client.application.scopes = []
            client.application.save()

    await sync_to_async(narrow)()
    assert await status_of(token) == 401


@pytest.mark.parametrize(
    "text",
    ["parleyt_", "parleyt_short", "parleyt_" + "a" * 43, "parleyt_" + "a" * 42 + "'", "parleyt_" + "é" * 43],
)
async def test_what_is_no_token_is_refused(client: Client, text: str) -> None:
    assert await status_of(text.encode().decode("latin-1")) == 401


MALFORMED: list[tuple[dict[str, Any], int]] = [
    ({"data": "{}", "content_type": "application/json"}, 400),
    ({"data": "grant_type=client_credentials", "content_type": FORM}, 401),
    ({"data": "client_id=%00", "content_type": FORM}, 401),
    ({"data": "client_id=%ff", "content_type": FORM}, 401),
    ({"data": "client_id=x", "content_type": FORM + "; charset=utf-7"}, 400),
    ({"data": "x=1&" * 6000, "content_type": FORM}, 400),
    ({"data": "x" * 2_000_000, "content_type": FORM}, 400),
    ({"data": "a=b", "content_type": FORM, "headers": {"Authorization": "Basic !!!"}}, 401),
    ({"data": "a=b", "content_type": FORM, "headers": {"Authorization": "Basic /w=="}}, 401),
]


@pytest.mark.parametrize(("request_", "status"), MALFORMED)
@pytest.mark.parametrize("address", ["token", "revoke", "introspect"])
async def test_malformed_requests_are_answered_as_the_rfc_says(
    client: Client, address: str, request_: dict[str, Any], status: int
) -> None:
    response = await AsyncClient().post(f"/oauth/{address}", **request_)
    assert response.status_code == status
    assert response.json()["error"] == {400: "invalid_request", 401: "invalid_client"}[status]


async def test_parameters_in_the_address_are_refused(client: Client) -> None:
    for query in ("grant_type=client_credentials", "%zz"):
        response = await AsyncClient().post(f"/oauth/token?{query}", "", content_type=FORM, headers=client.basic)
        assert (response.status_code, response.json()["error"]) == (400, "invalid_request")
    assert (await AsyncClient().get("/oauth/token")).status_code == 405


async def test_tokens_for_other_servers_are_not_made(client: Client) -> None:
    refused = await client.token(grant_type="client_credentials", resource="https://elsewhere.example/")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_target")
    assert (await client.token(grant_type="client_credentials", resource="http://127.0.0.1:8000/")).status_code == 200
