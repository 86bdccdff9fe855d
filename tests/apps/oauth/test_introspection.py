"""Clients of a tenant ask about its tokens and end their own; of another tenant's they learn and change nothing."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from apps.oauth import bearers
from apps.tenants.models import Tenant, User
from tests.apps.oauth.clients import Client, make_service, make_site, status_of
from tests.factories import make_tenant

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
async def site(acme: Tenant) -> Client:
    return Client(*await sync_to_async(make_site)(acme))


@pytest.fixture
async def service(acme: Tenant) -> Client:
    return Client(*await sync_to_async(make_service)(acme))


@pytest.fixture
async def foreigner(database: None) -> Client:
    globex = await sync_to_async(make_tenant)("globex")
    return Client(*await sync_to_async(make_service)(globex))


async def told(client: Client, token: str) -> dict[str, Any]:
    response = await client.post("introspect", token=token)
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    return body


async def test_a_client_of_the_tenant_is_told(service: Client, site: Client, alice: User) -> None:
    token = (await site.tokens(alice, scope="chat:read"))["access_token"]
    described = await told(service, token)
    assert described["active"] is True
    assert described["exp"] - described["iat"] in (3599, 3600)
    del described["iat"], described["exp"]
    assert described == {
        "active": True,
        "token_type": "Bearer",
        "client_id": site.application.client_id,
        "scope": "chat:read",
        "iss": "http://127.0.0.1:8000",
        "sub": str(alice.pk),
        "username": "alice@example.com",
    }


async def test_others_are_told_that_there_is_none(
    service: Client, site: Client, foreigner: Client, alice: User
) -> None:
    tokens = await site.tokens(alice)
    assert await told(foreigner, tokens["access_token"]) == {"active": False}
    for text in ("parleyt_" + "a" * 43, "x", "\0", "ü", tokens["refresh_token"]):
        assert await told(service, text) == {"active": False}
    assert (await site.post("revoke", token=tokens["access_token"])).status_code == 200
    assert await told(service, tokens["access_token"]) == {"active": False}


async def test_only_a_proven_client_may_ask(acme: Tenant, service: Client, alice: User) -> None:
    public = Client(*await sync_to_async(make_site)(acme, client_type="public"))
    token = (await public.tokens(alice))["access_token"]
    for client in (public, Client(service.application, "parleys_wrong")):
        response = await client.post("introspect", token=token)
        assert (response.status_code, response.json()) == (401, {"error": "invalid_client"})
    assert (await service.post("introspect")).json()["error"] == "invalid_request"


async def test_a_client_ends_its_own_tokens(site: Client, alice: User) -> None:
    for hint in ("access_token", "refresh_token"):
        tokens = await site.tokens(alice)
        response = await site.post("revoke", token=tokens[hint])
        assert (response.status_code, response.content) == (200, b"")
        bearers.forget()
        assert await status_of(tokens["access_token"]) == 401
        assert (await site.refreshed(tokens["refresh_token"])).json()["error"] == "invalid_grant"


async def test_a_client_ends_nobody_elses(site: Client, service: Client, foreigner: Client, alice: User) -> None:
    tokens = await site.tokens(alice)
    for other in (service, foreigner):
        for token in (tokens["access_token"], tokens["refresh_token"]):
            assert (await other.post("revoke", token=token)).status_code == 200
    bearers.forget()
    assert await status_of(tokens["access_token"]) == 200
    assert (await site.refreshed(tokens["refresh_token"])).status_code == 200


async def test_metadata_names_what_there_is(database: None) -> None:
    response = await AsyncClient().get("/.well-known/oauth-authorization-server")
    body = response.json()
    assert body["issuer"] == "http://127.0.0.1:8000"
    assert body["code_challenge_methods_supported"] == ["S256"]
    assert body["response_types_supported"] == ["code"]
    assert set(body["grant_types_supported"]) == {"authorization_code", "client_credentials", "refresh_token"}
    for name in ("authorization", "token", "revocation", "introspection"):
        address = body[f"{name}_endpoint"].removeprefix(body["issuer"])
        assert (await AsyncClient().get(address)).status_code in {302, 405}
