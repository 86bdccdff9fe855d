"""The embedding index of a collection in the admin: what is shown, who may do what, and what is written down of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apps.inference.models import Endpoint
from apps.knowledge.models import Chunk, Collection, SecondIndex
from apps.tenants.models import AuditEntry
from apps.tenants.scoping import tenant_scope
from tests.apps.admin_world import World, logged_in, make_world
from tests.factories import make_endpoint, make_member

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def collection(world: World) -> Collection:
    found: Collection = Collection.objects.for_tenant(world.acme).get()
    return found


@pytest.fixture
def address(collection: Collection) -> str:
    return reverse("admin:knowledge_collection_index", args=[collection.pk])


@pytest.fixture
def alice(world: World) -> Client:
    return logged_in(world.alice)


def deeds() -> Any:
    return AuditEntry.objects.filter(action__startswith="second_index").order_by("at")


def state(collection: Collection, **fields: Any) -> None:
    SecondIndex.objects.filter(collection=collection).update(**fields)


def test_one_that_failed_says_why_is_retried_and_cancelled(alice: Client, collection: Collection, address: str) -> None:
    page = alice.get(address).content.decode()
    assert "acme is away." in page
    assert "Try again now" in page
    assert alice.post(address, {"deed": "retry"}).status_code == 302
    assert SecondIndex.objects.get(collection=collection).state == "building"
    state(collection, done=3, total=10)
    told = alice.get(address, headers={"Accept": "application/json"}).json()["documents"]
    assert [one["finished"] for one in told] == [False]
    assert "3 of 10 passages" in told[0]["html"]
    assert "Cancel it" in alice.get(address).content.decode()
    alice.post(address, {"deed": "drop"})
    assert SecondIndex.objects.get(collection=collection).state == "dropping"
    assert [entry.action for entry in deeds()] == ["second_index.retried", "second_index.dropped"]
    SecondIndex.objects.filter(collection=collection).delete()
    told = alice.get(address, {"id": "its own"}, headers={"Accept": "application/json"}).json()["documents"]
    assert told == [{"id": "its own", "finished": True, "html": "<div></div>"}]


def test_it_is_switched_to_and_back(alice: Client, collection: Collection, address: str) -> None:
    with tenant_scope(collection.tenant_id):
        Chunk.objects.filter(collection=collection).discard()  # what has no passages lacks no vector
    former, other = collection.index_id, SecondIndex.objects.get(collection=collection).index_id
    assert "could not be built" in alice.post(address, {"deed": "switch"}, follow=True).content.decode()
    state(collection, state="ready", failure_code="", failure_message="")
    for label, then in (("Switch to it", other), ("Switch back", former), ("Switch to it", other)):
        assert label in alice.get(address).content.decode()
        alice.post(address, {"deed": "switch"})
        collection.refresh_from_db()
        assert collection.index_id == then
    assert "Former index" in alice.get(address).content.decode()


def test_one_is_built_of_a_model_that_serves_the_tenant(
    alice: Client, collection: Collection, address: str, world: World
) -> None:
    SecondIndex.objects.filter(collection=collection).delete()
    assert "No other embedding model" in alice.get(address).content.decode()
    make_endpoint(name="wider", kind=Endpoint.Kind.EMBEDDING, model="org/wide model", dimension=512)
    assert "org/wide model, 512 dimensions (wider)" in alice.get(address).content.decode()
    for unknown in ("unknown 512", "org/wide model 513", f"org/wide model {'9' * 5000}", "\0 512"):
        page = alice.post(address, {"deed": "build", "model": unknown}, follow=True).content.decode()
        assert "One of" in page
    alice.post(address, {"deed": "build", "model": "org/wide model 512"})
    second = SecondIndex.objects.get(collection=collection)
    assert (second.index.model, second.state, second.tenant) == ("org/wide model", "building", world.acme)
    assert deeds().get().facts == {"model": "org/wide model (512)"}
    for deed in ({}, {"deed": "other"}, {"deed": "build"}):
        assert alice.post(address, deed).status_code == 302


def test_who_only_reads_changes_nothing(world: World, collection: Collection, address: str) -> None:
    analyst = logged_in(make_member(tenant=world.acme, role="analyst"))
    page = analyst.get(address).content.decode()
    assert "acme is away." in page
    assert "Try again now" not in page
    assert analyst.post(address, {"deed": "retry"}).status_code == 403
    assert SecondIndex.objects.get(collection=collection).state == "failed"
