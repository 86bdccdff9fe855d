"""A real embedding server, a tenant with a collection, and the outsider who must never see it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge import remembered
from apps.knowledge.collections import create_collection
from apps.knowledge.models import Collection
from apps.tenants.models import Tenant
from tests.factories import make_endpoint, make_tenant
from tests.fakes.inference import FakeInference


@pytest.fixture
def embeddings() -> Iterator[FakeInference]:
    """The scripted server on a loop of its own, so that sync tests reach it too."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    fake = FakeInference()
    asyncio.run_coroutine_threadsafe(fake.__aenter__(), loop).result(10)
    yield fake
    asyncio.run_coroutine_threadsafe(fake.__aexit__(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def endpoint(database: None, embeddings: FakeInference) -> Endpoint:
    gateway.forget()
    return make_endpoint(embeddings.base_url, kind=Endpoint.Kind.EMBEDDING)


@pytest.fixture
def acme(endpoint: Endpoint) -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def globex(endpoint: Endpoint) -> Tenant:
    return make_tenant("globex")


@pytest.fixture
def manuals(acme: Tenant) -> Collection:
    return create_collection(acme, name="Manuals")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this machine were always quick: no search does without what it remembers."""
    monkeypatch.setattr(remembered, "PATIENCE_SECONDS", 10.0)
    monkeypatch.setattr(remembered, "_resting_until", 0.0)


@pytest.fixture(autouse=True)
def storage(settings: Any, tmp_path: Any) -> None:
    """Each test's uploads in a directory of its own."""
    settings.MEDIA_ROOT = tmp_path / "media"
