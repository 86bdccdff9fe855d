"""acme with its owner alice, and an application that acts for members."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async

from apps.oauth import bearers
from apps.tenants.models import Tenant, User
from tests.apps.oauth.clients import Client, make_site
from tests.factories import make_member, make_tenant


@pytest.fixture
async def acme(database: None) -> Tenant:
    bearers.forget()
    return await sync_to_async(make_tenant)("acme", name="Acme Ltd")


@pytest.fixture
async def alice(acme: Tenant) -> User:
    return await sync_to_async(make_member)(tenant=acme, email="alice@example.com", role="owner")


@pytest.fixture
async def client(acme: Tenant) -> Client:
    return Client(*await sync_to_async(make_site)(acme))
