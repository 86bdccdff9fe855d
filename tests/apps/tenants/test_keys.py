"""API keys: made once, checked without a query where mistyped, forgotten within seconds of being revoked."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from apps.access import authentication
from apps.tenants import audit, keys, rights, taking_back
from apps.tenants.models import ApiKey, Tenant
from apps.tenants.scoping import platform_unit
from chatbot.errors import NotAuthenticated
from tests import factories


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Authentication without what earlier calls remembered."""
    monkeypatch.setattr(authentication, "_known", {})


def test_only_a_digest_is_stored(db: None) -> None:
    tenant = factories.make_tenant()
    account = keys.service_account(tenant, "test")
    row, text = keys.issue(tenant, name="test", scopes=rights.ALL, service_account=account)
    parts = keys.parse(text)
    assert parts is not None
    assert text.startswith(f"parley_{row.key_id}_")
    stored = " ".join(str(value) for value in ApiKey.objects.values().get().values())
    assert parts.secret not in stored
    assert len(bytes(row.digest)) == 32


@given(st.text(max_size=80))
def test_parsing_never_raises(text: str) -> None:
    keys.parse(text)


@given(st.integers(0, 67), st.characters(codec="ascii"))
def test_any_one_mistyped_character_is_noticed(place: int, character: str) -> None:
    text = "parley_" + "a1B2c3D4e5F6" + "_" + "s" * 43
    text += keys._crc(text)
    wrong = text[:place] + character + text[place + 1 :]
    assert (keys.parse(wrong) is None) == (wrong != text)


async def test_a_mistyped_key_costs_no_query(database: None, forgetful: None) -> None:
    text = await platform_unit(lambda: factories.make_key(tenant=factories.make_tenant()))
    wrong = text[:-1] + ("a" if text[-1] != "a" else "b")

    def query_count() -> int:
        with CaptureQueriesContext(connection) as queries, pytest.raises(NotAuthenticated):
            authentication.KeyAuthentication().authenticate(_request(wrong))
        return len(queries)

    assert await platform_unit(query_count) == 0


def _request(text: str) -> Any:
    class Request:
        headers = {"Authorization": f"Bearer {text}"}

    return Request()


async def test_a_key_stands_for_its_tenant_and_shows_its_use(database: None, forgetful: None) -> None:
    tenant = await platform_unit(factories.make_tenant)
    text = await platform_unit(lambda: factories.make_key(tenant=tenant))
    caller = await authentication.authenticate(text)
    assert caller.tenant == tenant
    row = await platform_unit(ApiKey.objects.get)
    assert row.last_used_at is not None


@pytest.mark.parametrize("how", ["revoked", "expired", "suspended", "deleted", "wrong secret"])
async def test_a_key_that_ended_is_refused(database: None, forgetful: None, how: str) -> None:
    tenant = await platform_unit(factories.make_tenant)
    text = await platform_unit(lambda: factories.make_key(tenant=tenant))
    await authentication.authenticate(text)
    authentication._known.clear()

    def end() -> None:
        row = ApiKey.objects.get()
        if how == "revoked":
            taking_back.revoke_key(row, audit.SYSTEM)
        elif how == "expired":
            ApiKey.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
        elif how == "suspended":
            Tenant.objects.update(is_active=False)
        elif how == "deleted":
            row.delete()
        else:
            ApiKey.objects.update(digest=keys.digest("another"))

    await platform_unit(end)
    with pytest.raises(NotAuthenticated):
        await authentication.authenticate(text)


async def test_a_remembered_key_is_forgotten_in_time(
    database: None, forgetful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await platform_unit(factories.make_tenant)
    text = await platform_unit(lambda: factories.make_key(tenant=tenant))
    await authentication.authenticate(text)
    await platform_unit(lambda: ApiKey.objects.update(revoked_at=timezone.now()))
    assert (await authentication.authenticate(text)).tenant == tenant
    known = next(iter(authentication._known.values()))
    monkeypatch.setattr(authentication.time, "monotonic", lambda: known.until + 0.01)
    with pytest.raises(NotAuthenticated):
        await authentication.authenticate(text)


async def test_a_remembered_key_with_another_secret_is_refused(database: None, forgetful: None) -> None:
    text = await platform_unit(lambda: factories.make_key(tenant=factories.make_tenant()))
    await authentication.authenticate(text)
    body = text[: len("parley_") + 12] + "_" + "x" * 43
    with pytest.raises(NotAuthenticated):
        await authentication.authenticate(body + keys._crc(body))


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "found"),
    [
        ("Bearer abc", "other", "abc"),
        ("bearer abc", None, "abc"),
        ("Basic abc", "other", ""),
        (None, " abc ", "abc"),
        (None, None, ""),
        ("", "abc", "abc"),
    ],
)
def test_where_a_key_is_looked_for(authorization: str | None, x_api_key: str | None, found: str) -> None:
    assert authentication.key_in(authorization, x_api_key) == found
