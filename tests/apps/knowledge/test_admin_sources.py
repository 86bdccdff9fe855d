"""Sources in the admin: added, changed, run and deleted there, with the report of each run."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.knowledge.models import Collection, Document, Source, SourcePage, SourceRun
from apps.tenants.models import AuditEntry
from tests.apps.admin_world import World, logged_in, make_world
from tests.factories import make_document

pytestmark = pytest.mark.usefixtures("database")

ADD = reverse("admin:knowledge_source_add")
NUMBERS = {"depth": "2", "max_pages": "50", "every_hours": "24"}


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def alice(world: World) -> Client:
    return logged_in(world.alice)


@pytest.fixture
def own(world: World) -> Source:
    found: Source = Source.objects.for_tenant(world.acme).get()
    return found


def form(world: World, **fields: Any) -> dict[str, Any]:
    collection = Collection.objects.for_tenant(world.acme).get()
    site = {"kind": "site", "location": "https://docs.example.org", "hosts": "www.example.org\ncdn.example.org"}
    return {"collection": str(collection.pk), **site, **NUMBERS, **fields}


def page(name: str, source: Source) -> str:
    return reverse(f"admin:knowledge_source_{name}", args=[source.pk])


def errors(response: Any) -> list[str]:
    return list(response.context["adminform"].form.errors)


def test_one_is_added(world: World, alice: Client) -> None:
    assert alice.post(ADD, form(world)).status_code == 302
    source = Source.objects.get(location="https://docs.example.org/")
    assert (source.name, source.hosts) == ("docs.example.org", ["www.example.org", "cdn.example.org"])
    assert (source.tenant, source.created_by, source.every_hours) == (world.acme, world.alice, 24)
    assert source.next_run_at is not None
    assert AuditEntry.objects.filter(action="source.added").count() == 1


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"location": "http://10.0.0.1/"}, "location"),
        ({"hosts": "https://x.example/"}, "hosts"),
        ({"depth": "11"}, "depth"),
        ({"max_pages": "0"}, "max_pages"),
        ({"every_hours": "99999"}, "every_hours"),
        ({"kind": "folder", "location": "manuals"}, "kind"),
        ({"access_key": "x"}, "access_key"),
        ({"kind": "bucket", "location": "manuals", "access_key": "x"}, "new_secret"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(world: World, alice: Client, fields: dict[str, str], named: str) -> None:
    assert errors(alice.post(ADD, form(world, **fields))) == [named]


def test_two_with_the_same_start_are_refused(world: World, alice: Client) -> None:
    alice.post(ADD, form(world))
    response = alice.post(ADD, form(world), follow=True)
    assert "Another source of this collection begins there." in response.content.decode()
    assert Source.objects.filter(location="https://docs.example.org/").count() == 1


def test_only_operators_share_folders(world: World, alice: Client, settings: Any, tmp_path: Any) -> None:
    settings.PARLEY_SOURCE_FOLDERS = str(tmp_path)
    folder = form(world, kind="folder", location="manuals", hosts="")
    assert errors(alice.post(ADD, folder)) == ["kind"]
    operator = logged_in(world.operator)
    assert operator.post(f"{ADD}?tenant=acme", folder).status_code == 302
    assert Source.objects.get(kind="folder").tenant == world.acme


def test_a_secret_is_set_kept_and_never_shown(world: World, alice: Client) -> None:
    keys = {"access_key": "parley", "new_secret": "a-canary", "endpoint": "https://s3.example.org"}
    assert alice.post(ADD, form(world, kind="bucket", location="manuals/in", hosts="", **keys)).status_code == 302
    source = Source.objects.get(kind="bucket")
    assert source.secret_key == "a-canary"
    assert "a-canary" not in alice.get(page("change", source)).content.decode()
    change = {"name": "Ours", "access_key": "other", "new_secret": "", "region": "", "hosts": "", **NUMBERS}
    assert alice.post(page("change", source), change).status_code == 302
    source.refresh_from_db()
    assert (source.name, source.access_key, source.secret_key) == ("Ours", "other", "a-canary")


def test_where_it_begins_is_not_changed(world: World, alice: Client, own: Source) -> None:
    before = own.location
    change = {"name": "Ours", "hosts": "", "location": "https://other.example/", "kind": "sitemap", **NUMBERS}
    assert alice.post(page("change", own), change).status_code == 302
    own.refresh_from_db()
    assert (own.name, own.location, own.kind, own.depth) == ("Ours", before, "site", 2)


def test_it_is_run_and_stopped(world: World, alice: Client, own: Source) -> None:
    response = alice.post(page("run_now", own), {"_form_submitted": "1"})
    assert response["HX-Redirect"] == page("change", own)
    run = SourceRun.objects.for_tenant(world.acme).get(state="queued")
    alice.post(page("run_now", own), {"_form_submitted": "1"})
    assert SourceRun.objects.for_tenant(world.acme).filter(state="queued").count() == 1
    alice.post(page("stop_run", own), {"_form_submitted": "1"})
    run.refresh_from_db()
    assert run.state == "stopped"
    actions = AuditEntry.objects.filter(action__startswith="source.").order_by("seq").values_list("action", flat=True)
    assert list(actions) == ["source.run", "source.stopped"]


def test_the_report_of_each_run_is_shown(world: World, alice: Client, own: Source) -> None:
    told = {"address": f"{own.location}secret", "code": "robots_forbid", "message": "The host's robots.txt forbids it."}
    SourceRun.objects.create(
        tenant=world.acme, source=own, state="finished", ended=timezone.now(), found=1_234, refused=1, refusals=[told],
        cut=True,
    )  # fmt: skip
    first = SourceRun.objects.for_tenant(world.acme).get(state="failed")
    text = alice.get(page("change", own)).content.decode()
    assert "1,234" in text
    assert "robots_forbid" in text
    assert "There are more pages" in text
    earlier = alice.get(page("change", own), {"run": str(first.pk)}).content.decode()
    assert "acme leads elsewhere." in earlier
    assert "robots_forbid" not in earlier
    listed = alice.get(reverse("admin:knowledge_source_changelist")).content.decode()
    assert "Finished" in listed


def test_another_tenants_report_is_not(world: World, alice: Client, own: Source) -> None:
    theirs = SourceRun.objects.for_tenant(world.globex).get()
    assert "globex" not in alice.get(page("change", own), {"run": str(theirs.pk)}).content.decode()


@pytest.mark.parametrize("keep", [False, True])
def test_deleting_asks_what_becomes_of_its_documents(world: World, alice: Client, own: Source, keep: bool) -> None:
    mine = make_document(tenant=world.acme, collection=own.collection)
    made = SourcePage.objects.create(tenant=world.acme, source=own, address="https://acme.example/")
    theirs = make_document(tenant=world.acme, collection=own.collection, source_page=made)
    assert "Keep its documents" in alice.get(page("delete", own)).content.decode()
    alice.post(page("delete", own), {"post": "yes", **({"keep_documents": "yes"} if keep else {})})
    assert not Source.objects.for_tenant(world.acme).exists()
    assert Document.objects.filter(pk=mine.pk).exists()
    assert Document.objects.filter(pk=theirs.pk).exists() == keep
    assert AuditEntry.objects.filter(action="source.deleted").count() == 1


def test_analysts_read_and_do_nothing(world: World, own: Source) -> None:
    world.acme.memberships.filter(user=world.bob).update(role="analyst")
    bob = logged_in(world.bob)
    assert bob.get(page("change", own)).status_code == 200
    assert bob.post(ADD, form(world)).status_code == 403
    assert bob.post(page("delete", own), {"post": "yes"}).status_code == 403
    assert bob.post(page("run_now", own), {"_form_submitted": "1"}).status_code == 403
    assert Source.objects.for_tenant(world.acme).count() == 1
