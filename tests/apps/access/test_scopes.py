"""What a key may do at each address: what its scopes say, and nothing else of what it lacks."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import AsyncClient

from apps.tenants import rights
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.abuse.test_12_no_credentials import address
from tests.apps.conversations.conftest import Api
from tests.architecture.test_scopes import DOORS, ORIGIN_ALONE

DEEDS = [(route, method, door.scopes[method]) for route, door in DOORS.items() for method in door.scopes]


async def told(key: str, route: str, method: str) -> tuple[int, str]:
    """Status and message of an empty request about nothing there is."""
    answer = await Api(key).generic(method, address(route), "{}", content_type="application/json")
    body = getattr(answer, "content", b"")
    return answer.status_code, body.decode()


async def test_each_deed_takes_its_scope(database: None) -> None:
    def prepare() -> tuple[dict[str, str], dict[str, str]]:
        tenant = factories.make_tenant()
        alone = {scope: factories.make_key(tenant=tenant, scopes=[scope]) for scope in rights.ALL}
        without = {scope: factories.make_key(tenant=tenant, scopes=rights.ALL - {scope}) for scope in rights.ALL}
        return alone, without

    alone, without = await platform_unit(prepare)
    assert len(DEEDS) > 35
    for route, method, scope in DEEDS:
        status, body = await told(without[scope], route, method)
        assert (status, f"the scope {scope}." in body) == (403, True), (route, method)
        status, _ = await told(alone[scope], route, method)
        assert status not in {401, 500}, (route, method)
        assert status != 403 or route == "api/v1/visitors/renew", (route, method)  # which visitors alone may


async def test_a_refusal_comes_before_anything_is_looked_at(database: None) -> None:
    """So that it tells neither what exists nor what is wrong with a request."""
    key = await platform_unit(lambda: factories.make_key(tenant=factories.make_tenant(), scopes=["usage:read"]))
    for body in ("{}", "not JSON", '{"collection": "manuals"}'):
        answer = await Api(key).generic("POST", "/api/v1/search", body, content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT"])
async def test_other_methods_are_no_way_around(database: None, method: str) -> None:
    key = await platform_unit(lambda: factories.make_key(tenant=factories.make_tenant(), scopes=["chat:write"]))
    answer = await Api(key).generic(method, "/api/v1/documents")
    assert answer.status_code == (405 if method == "PUT" else 403)


async def test_what_asks_for_no_credential_takes_none(database: None) -> None:
    key = await platform_unit(lambda: factories.make_key(tenant=factories.make_tenant()))
    for route in (route for route, door in DOORS.items() if door in ORIGIN_ALONE):
        client: Any = AsyncClient()
        ask = client.post if "post" in vars(DOORS[route]) else client.get
        answer = await ask(address(route), headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 401


async def test_a_key_of_an_unknown_scope_alone_opens_nothing(database: None) -> None:
    key = await platform_unit(lambda: factories.make_key(tenant=factories.make_tenant(), scopes=["chat:everything"]))
    answer = await Api(key).generic("GET", f"/api/v1/turns/{uuid.uuid4()}")
    assert answer.status_code == 401
