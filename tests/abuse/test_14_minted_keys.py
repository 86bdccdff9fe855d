"""A key never does what its maker may not do now, whatever it was given, and whatever became of them since."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import pytest

from apps.access import authentication
from apps.tenants import keys, rights
from apps.tenants.models import ApiKey, Membership, Tenant, User
from apps.tenants.scoping import platform_unit, tenant_scope
from chatbot.errors import NotAuthenticated, NotPermitted
from tests import factories
from tests.apps.conversations.conftest import Api

SETS = list(chain.from_iterable(combinations(sorted(rights.ALL), n) for n in range(1, len(rights.ALL) + 1)))


@pytest.fixture
def tenant(db: None) -> Tenant:
    return factories.make_tenant("acme")


def issue(tenant: Tenant, maker: User, scopes: Any, *, for_program: bool = False) -> str:
    account = keys.service_account(tenant, "Shop") if for_program else None
    return keys.issue(tenant, name="k", scopes=scopes, created_by=maker, service_account=account)[1]


def scopes_of(text: str) -> frozenset[str]:
    """What the key may do at this moment; nothing where it is refused."""
    authentication.forget()
    parts = keys.parse(text)
    assert parts is not None
    try:
        return authentication._look_up(parts).caller.scopes
    except NotAuthenticated:
        return frozenset()


@pytest.mark.parametrize("role", Membership.Role.values)
@pytest.mark.parametrize("for_program", [False, True])
def test_no_role_gives_away_more_than_it_has(tenant: Tenant, role: str, for_program: bool) -> None:
    maker = factories.make_member(tenant=tenant, role=role)
    for scopes in SETS:
        if set(scopes) <= rights.OF_ROLE[role]:
            assert scopes_of(issue(tenant, maker, scopes, for_program=for_program)) == set(scopes)
        else:
            with pytest.raises(NotPermitted):
                issue(tenant, maker, scopes, for_program=for_program)


def demote(role: str) -> Any:
    return lambda maker: Membership.objects.filter(user=maker).update(role=role)


def remove(maker: User) -> None:
    Membership.objects.filter(user=maker).delete()


def deactivate(maker: User) -> None:
    User.objects.filter(pk=maker.pk).update(is_active=False)


AFTERWARDS: dict[str, tuple[Any, frozenset[str]]] = {
    **{role: (demote(role), rights.OF_ROLE[role]) for role in Membership.Role.values},
    "removed": (remove, frozenset()),
    "deactivated": (deactivate, frozenset()),
}


@pytest.mark.parametrize("role", ["owner", "editor", "analyst"])
@pytest.mark.parametrize("change", AFTERWARDS)
@pytest.mark.parametrize("for_program", [False, True])
def test_a_key_shrinks_with_its_maker(tenant: Tenant, role: str, change: str, for_program: bool) -> None:
    maker = factories.make_member(tenant=tenant, role=role)
    text = issue(tenant, maker, rights.OF_ROLE[role], for_program=for_program)
    happens, left = AFTERWARDS[change]
    happens(maker)
    assert scopes_of(text) == rights.OF_ROLE[role] & left


def test_a_key_gets_back_what_its_maker_gets_back(tenant: Tenant) -> None:
    maker = factories.make_member(tenant=tenant, role="owner")
    text = issue(tenant, maker, rights.ALL)
    demote("analyst")(maker)
    assert scopes_of(text) == rights.OF_ROLE["analyst"]
    demote("owner")(maker)
    assert scopes_of(text) == rights.ALL


def test_a_role_elsewhere_counts_for_nothing(tenant: Tenant) -> None:
    maker = factories.make_member(tenant=tenant, role="owner")
    text = issue(tenant, maker, rights.ALL)
    other = factories.make_tenant("globex")
    with tenant_scope(other):
        Membership.objects.create(tenant=other, user=maker, role="owner")
    demote("analyst")(User.objects.get(pk=maker.pk))
    with tenant_scope(tenant):
        Membership.objects.for_tenant(tenant).delete()
    assert scopes_of(text) == frozenset()
    stranger = factories.make_user()
    with pytest.raises(NotPermitted):
        issue(other, stranger, ["chat:read"])


def test_an_operators_key_lasts_as_long_as_they_are_one(tenant: Tenant) -> None:
    operator = factories.make_user(is_superuser=True)
    text = issue(tenant, operator, rights.ALL, for_program=True)
    assert scopes_of(text) == rights.ALL
    User.objects.filter(pk=operator.pk).update(is_superuser=False)
    assert scopes_of(text) == frozenset()


def test_scopes_written_past_the_form_count_no_more(tenant: Tenant) -> None:
    maker = factories.make_member(tenant=tenant, role="analyst")
    text = issue(tenant, maker, ["chat:read"])
    ApiKey.objects.update(scopes=[*rights.ALL, "chat:*", "*"])
    assert scopes_of(text) == rights.OF_ROLE["analyst"]


async def test_a_demotion_is_seen_through_the_door(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "CACHE_SECONDS", 0.0)

    def prepare() -> tuple[User, str]:
        tenant = factories.make_tenant()
        maker = factories.make_member(tenant=tenant, role="editor")
        return maker, issue(tenant, maker, ["knowledge:read", "knowledge:write"])

    maker, text = await platform_unit(prepare)
    body = '{"name": "Manuals", "slug": "manuals"}'

    async def create() -> int:
        answer = await Api(text).generic("POST", "/api/v1/collections", body, content_type="application/json")
        return int(answer.status_code)

    assert await create() == 503  # let in; no embedding endpoint serves the tenant
    await platform_unit(demote("analyst"), maker)
    assert await create() == 403
    await platform_unit(remove, maker)
    assert await create() == 401
