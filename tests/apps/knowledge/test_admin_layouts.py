"""Layouts in the admin: everybody who builds sees how their collections are searched, and why; operators choose."""

from __future__ import annotations

import pytest
from django.urls import reverse

from apps.knowledge.models import Collection, Layout
from apps.tenants.models import AuditEntry
from tests.apps.admin_world import World, logged_in, make_world

pytestmark = pytest.mark.usefixtures("database")
LIST = reverse("admin:knowledge_layout_changelist")


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def own(world: World) -> Layout:
    collection = Collection.objects.for_tenant(world.acme).get()
    fields = {"state": "indexed", "passages": 12_345, "by_collection": {str(collection.pk): 12_345}}
    Layout.objects.for_tenant(world.acme).update(recall_at_10=0.9876, exact_up_to=5_000, **fields)
    found: Layout = Layout.objects.for_tenant(world.acme).get()
    return found


def test_the_list_tells_which_and_why(world: World, own: Layout) -> None:
    said = logged_in(world.alice).get(LIST).content.decode()
    for word in ("Indexed", "12,345", "acme is small.", "0.988"):
        assert word in said
    assert "globex" not in said
    assert "acme is small." not in logged_in(world.alice).get(LIST, {"state__exact": "building"}).content.decode()


def test_a_page_tells_of_each_collection(world: World, own: Layout) -> None:
    page = reverse("admin:knowledge_layout_change", args=[own.pk])
    said = logged_in(world.alice).get(page).content.decode()
    assert "acme manuals: 12,345 passages, HNSW" in said
    assert logged_in(world.charlie).get(page).status_code == 302


def test_operators_alone_choose(world: World, own: Layout) -> None:
    page = reverse("admin:knowledge_layout_change", args=[own.pk])
    assert logged_in(world.alice).post(page, {"choice": "exact"}).status_code == 403
    assert logged_in(world.operator).post(page, {"choice": "exact"}).status_code == 302
    own.refresh_from_db()
    assert (own.choice, own.state) == ("exact", "indexed")  # until the process has seen it
    assert AuditEntry.objects.filter(action="layout.changed").count() == 1
    assert logged_in(world.operator).post(page, {"choice": "other"}).status_code == 200


def test_nobody_adds_or_deletes_one(world: World, own: Layout) -> None:
    operator = logged_in(world.operator)
    assert operator.get(reverse("admin:knowledge_layout_add")).status_code == 403
    assert operator.post(reverse("admin:knowledge_layout_delete", args=[own.pk]), {"post": "yes"}).status_code == 403
