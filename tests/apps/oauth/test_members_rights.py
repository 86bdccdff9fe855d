"""What came of a member's consent is renewed once at a time, and never may more than the member does now."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async

from apps.oauth import bearers
from apps.oauth.models import AccessToken, Grant, RefreshToken
from apps.tenants.models import Membership, Tenant, User
from tests.apps.oauth.clients import Client, browser_of, make_site, status_of, within
from tests.factories import make_member

pytestmark = pytest.mark.usefixtures("database")


async def change_role(client: Client, user: User, role: str) -> None:
    await within(client, lambda: Membership.objects.filter(user=user).update(role=role))
    bearers.forget()


# --- Refreshing ---


async def test_refreshing_replaces_both_tokens(client: Client, alice: User) -> None:
    first = await client.tokens(alice)
    second = (await client.refreshed(first["refresh_token"])).json()
    assert {first["access_token"], first["refresh_token"]}.isdisjoint(second.values())
    bearers.forget()
    assert await status_of(first["access_token"]) == 401
    assert await status_of(second["access_token"]) == 200


async def test_a_refresh_token_used_twice_ends_its_family(client: Client, alice: User) -> None:
    first, beside = await client.tokens(alice), await client.tokens(alice)
    second = (await client.refreshed(first["refresh_token"])).json()
    assert (await client.refreshed(first["refresh_token"])).json()["error"] == "invalid_grant"
    bearers.forget()
    assert await status_of(second["access_token"]) == 401
    assert (await client.refreshed(second["refresh_token"])).json()["error"] == "invalid_grant"
    assert await status_of(beside["access_token"]) == 200


async def test_a_refresh_token_is_its_clients_alone(client: Client, acme: Tenant, alice: User) -> None:
    tokens = await client.tokens(alice)
    other = Client(*await sync_to_async(make_site)(acme, name="Other"))
    assert (await other.refreshed(tokens["refresh_token"])).json()["error"] == "invalid_grant"


async def test_refreshing_narrows_and_never_widens(client: Client, alice: User) -> None:
    tokens = await client.tokens(alice, scope="chat:read chat:write")
    assert (await client.refreshed(tokens["refresh_token"], scope="admin:*")).json()["error"] == "invalid_scope"
    narrowed = (await client.refreshed(tokens["refresh_token"], scope="chat:read")).json()
    assert narrowed["scope"] == "chat:read"


# --- Roles ---


async def test_consent_gives_no_more_than_the_members_role(client: Client, acme: Tenant) -> None:
    analyst = await sync_to_async(make_member)(tenant=acme, email="ann@example.com", role="analyst")
    page = (await (await browser_of(analyst)).get(client.link())).content.decode()
    assert "your role does not permit" in page
    tokens = await client.tokens(analyst)
    assert set(tokens["scope"].split()) == {"chat:read", "knowledge:read", "usage:read"}


async def test_whose_role_permits_nothing_cannot_agree(client: Client, acme: Tenant) -> None:
    support = await sync_to_async(make_member)(tenant=acme, email="sue@example.com", role="support")
    page = (await (await browser_of(support)).get(client.link())).content.decode()
    assert "Allow" not in page
    assert (await client.agreed(support))["error"] == "access_denied"


async def test_a_demoted_members_tokens_shrink(client: Client, alice: User) -> None:
    tokens = await client.tokens(alice)
    await change_role(client, alice, "analyst")
    known = await bearers.look_up(tokens["access_token"])
    assert known is not None
    assert known.caller.scopes == {"chat:read", "knowledge:read", "usage:read"}
    renewed = (await client.refreshed(tokens["refresh_token"])).json()
    assert "admin:*" not in renewed["scope"]
    await change_role(client, alice, "support")
    assert await status_of(renewed["access_token"]) == 401
    assert (await client.refreshed(renewed["refresh_token"])).json()["error"] == "invalid_grant"


async def test_between_consent_and_exchange_rights_are_looked_at_again(client: Client, alice: User) -> None:
    code = (await client.agreed(alice))["code"]
    await change_role(client, alice, "analyst")
    assert "admin:*" not in (await client.exchanged(code)).json()["scope"]


async def test_a_removed_members_tokens_end(client: Client, alice: User) -> None:
    tokens = await client.tokens(alice)
    await within(client, lambda: Membership.objects.filter(user=alice).delete())
    bearers.forget()
    assert await status_of(tokens["access_token"]) == 401
    assert (await client.refreshed(tokens["refresh_token"])).json()["error"] == "invalid_grant"


async def test_a_deactivated_users_tokens_end(client: Client, alice: User) -> None:
    tokens = await client.tokens(alice)
    alice.is_active = False
    await alice.asave()
    bearers.forget()
    assert await status_of(tokens["access_token"]) == 401


async def test_tokens_name_their_tenant(client: Client, alice: User) -> None:
    await client.tokens(alice)
    for model in (Grant, AccessToken, RefreshToken):
        rows = await within(client, lambda model=model: list(model.objects.values_list("tenant_id", flat=True)))
        assert rows == [client.application.tenant_id]
