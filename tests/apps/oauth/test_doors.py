"""A token opens the doors that a key opens, as far as its scopes go, and what it opened ends with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from apps.oauth import bearers, registration
from apps.tenants import audit, taking_back
from apps.tenants.models import Membership, Tenant, User
from apps.tenants.scoping import tenant_scope
from tests.abuse.test_13_one_key_through_every_door import opened
from tests.abuse.test_15_revocation import closed
from tests.apps.conversations.test_websocket import Socket
from tests.apps.oauth.clients import Client, make_site
from tests.factories import make_member, make_tenant

pytestmark = pytest.mark.usefixtures("database")


class Cast:
    """acme, alice who let an application in, and its tokens."""

    tenant: Tenant
    alice: User
    client: Client
    access: str
    refresh: str
    code: str


@pytest.fixture
async def cast(database: None) -> Cast:
    bearers.forget()
    made = Cast()
    made.tenant = await sync_to_async(make_tenant)("acme")
    await sync_to_async(make_member)(tenant=made.tenant, role="owner")
    made.alice = await sync_to_async(make_member)(tenant=made.tenant, email="alice@example.com", role="owner")
    made.client = Client(*await sync_to_async(make_site)(made.tenant))
    made.code = (await made.client.agreed(made.alice, "allow", scope="chat:read usage:read"))["code"]
    tokens = (await made.client.exchanged(made.code)).json()
    made.access, made.refresh = tokens["access_token"], tokens["refresh_token"]
    return made


async def test_a_token_opens_every_door(cast: Cast) -> None:
    assert set((await opened(cast.access)).values()) == {True}


async def test_its_scopes_are_asked_for(cast: Cast) -> None:
    bearer = {"Authorization": f"Bearer {cast.access}"}
    body = {"assistant": "guide", "text": "Hello", "model": "guide", "messages": [{"role": "user", "content": "Hello"}]}
    for path in ("/api/v1/conversations", "/v1/chat/completions", "/api/v1/webhooks"):
        answer = await AsyncClient().post(path, body, content_type="application/json", headers=bearer)
        assert answer.status_code == 403, path
    assert (await AsyncClient().get("/api/v1/usage", headers=bearer)).status_code == 200
    assert (await AsyncClient().get("/api/v1/documents", headers=bearer)).status_code == 403


def in_scope(cast: Cast, work: Callable[[Membership], None]) -> Awaitable[None]:
    def scoped() -> None:
        with tenant_scope(cast.tenant):
            work(Membership.objects.for_tenant(cast.tenant).get(user=cast.alice))

    return sync_to_async(scoped)()


async def revoke(cast: Cast) -> None:
    await cast.client.post("revoke", token=cast.access)


async def revoke_the_refresh_token(cast: Cast) -> None:
    await cast.client.post("revoke", token=cast.refresh)


async def use_the_code_again(cast: Cast) -> None:
    await cast.client.exchanged(cast.code)


async def refresh(cast: Cast) -> None:
    await cast.client.refreshed(cast.refresh)


async def delete_the_application(cast: Cast) -> None:
    await sync_to_async(registration.delete)(cast.client.application)


async def take_a_scope_from_the_application(cast: Cast) -> None:
    cast.client.application.scopes = ["chat:read"]
    await sync_to_async(registration.change)(cast.client.application)


async def demote_the_member(cast: Cast) -> None:
    await in_scope(cast, lambda member: taking_back.change_role(member, Membership.Role.EDITOR, audit.SYSTEM))


async def remove_the_member(cast: Cast) -> None:
    await in_scope(cast, lambda member: taking_back.remove_member(member, audit.SYSTEM))


async def suspend_the_tenant(cast: Cast) -> None:
    await sync_to_async(taking_back.suspend_tenant)(cast.tenant, audit.SYSTEM)


@pytest.mark.parametrize(
    "end",
    [
        revoke,
        revoke_the_refresh_token,
        use_the_code_again,
        refresh,
        delete_the_application,
        take_a_scope_from_the_application,
        demote_the_member,
        remove_the_member,
        suspend_the_tenant,
    ],
)
async def test_an_idle_socket_ends_with_its_token(cast: Cast, end: Callable[[Cast], Awaitable[None]]) -> None:
    socket = Socket(Authorization=f"Bearer {cast.access}")
    await socket.connect()
    assert (await socket.hear())["type"] == "ready"
    await end(cast)
    assert await closed(socket) == (4403 if end is suspend_the_tenant else 4401)
