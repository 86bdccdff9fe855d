"""How many documents and bytes a tenant may keep: asked at every door before anything is stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse

from apps.knowledge.collections import create_collection
from apps.knowledge.ingest import add_document, delete_document
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from tests.apps.admin_world import logged_in
from tests.apps.knowledge.asking import client_of, post, refused, stored_files, upload
from tests.apps.knowledge.ingesting import ingested, manual
from tests.factories import make_member, make_quota
from tests.fakes.site import Site, running_site

TEXT = {"collection": "manuals", "title": "Note", "text": "Close the valve."}


@pytest.fixture
def site(settings: Any) -> Iterator[Site]:
    settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["localhost"]
    with running_site() as site:
        yield site


@pytest.fixture
def client(acme: Tenant) -> Client:
    return client_of(acme)


def kept(tenant: Tenant, amount: int, **fields: Any) -> None:
    make_quota(tenant=tenant, metric=fields.pop("metric", "documents"), window="once", amount=amount, **fields)


def full(response: Any) -> dict[str, Any]:
    """What a client is told for whom there is no room: not to wait, since that would not help."""
    body = refused(response, 429)
    assert body["code"] == "quota_exceeded"
    assert "retry_after" not in body
    assert "Retry-After" not in response.headers
    limit: dict[str, Any] = body["limit"]
    assert limit["reset"] is None
    assert body["message"].endswith("Delete some to make room.")
    return limit


def test_every_door_refuses_when_it_is_full(acme: Tenant, manuals: Collection, client: Client, site: Site) -> None:
    kept(acme, 1)
    assert upload(client).status_code == 202
    [stored] = stored_files()
    url = site.serves("/page", "<p>Close the valve.</p>")
    for answer in (
        upload(client, b"# Another", "other.md"),
        post(client, "documents", TEXT),
        post(client, "documents", {"collection": "manuals", "url": url}),
    ):
        assert full(answer) == {"name": "tenant.documents.once", "limit": 1, "remaining": 0, "reset": None}
    editor = logged_in(make_member(tenant=acme))
    page = reverse("admin:knowledge_collection_upload", args=[manuals.pk])
    for fields in ({"text": "Close it."}, {"url": url}, {"file": SimpleUploadedFile("more.md", b"# More")}):
        full(editor.post(page, fields))
    assert Document.objects.count() == 1
    assert stored_files() == [stored]
    assert not site.requests


def test_the_terminal_is_refused_too(acme: Tenant, manuals: Collection, tmp_path: Any, capsys: Any) -> None:
    kept(acme, 1)
    for name in ("one.md", "two.md"):
        (tmp_path / name).write_text(f"# {name}")
    with pytest.raises(CommandError, match="1 of 2 documents"):
        call_command("ingest", str(tmp_path), tenant="acme", collection="manuals", wait=False)
    assert Document.objects.count() == 1


def test_what_is_there_already_needs_no_room(acme: Tenant, manuals: Collection, client: Client) -> None:
    assert upload(client).status_code == 202
    kept(acme, 1)
    assert upload(client).status_code == 200


def test_deleting_makes_room_at_once(acme: Tenant, manuals: Collection, client: Client) -> None:
    kept(acme, 1)
    document = upload(client).json()
    full(post(client, "documents", TEXT))
    assert client.delete(f"/api/v1/documents/{document['id']}").status_code == 204
    assert post(client, "documents", TEXT).status_code == 202


def test_bytes_are_counted_when_they_come_and_when_they_change(
    acme: Tenant, manuals: Collection, client: Client
) -> None:
    kept(acme, 100, metric="bytes")
    document = upload(client, b"a" * 80).json()
    assert full(upload(client, b"b" * 21, "b.md")) == {
        "name": "tenant.bytes.once",
        "limit": 100,
        "remaining": 20,
        "reset": None,
    }
    assert upload(client, b"b" * 20, "b.md").status_code == 202
    path = f"documents/{document['id']}"
    larger = client.put(f"/api/v1/{path}", {"text": "a" * 81}, content_type="application/json")
    assert full(larger)["remaining"] == 0
    for size in (80, 30):  # no more than it has
        assert client.put(f"/api/v1/{path}", {"text": "c" * size}, content_type="application/json").status_code == 202
    assert client.put(f"/api/v1/{path}", {"text": "d" * 80}, content_type="application/json").status_code == 202
    assert sorted(file.stat().st_size for file in stored_files()) == [20, 80]


def test_a_collection_may_have_a_limit_of_its_own(acme: Tenant, manuals: Collection, client: Client) -> None:
    kept(acme, 1, level="collection")
    kept(acme, 2, level="collection", subject=str(create_collection(acme, name="Notes").pk))
    assert upload(client).status_code == 202
    assert full(post(client, "documents", TEXT))["name"] == "collection.documents.once"
    for text in ("one", "two"):
        assert post(client, "documents", {**TEXT, "collection": "notes", "text": text}).status_code == 202
    full(post(client, "documents", {**TEXT, "collection": "notes"}))


def test_a_soft_limit_refuses_nothing(acme: Tenant, manuals: Collection, client: Client) -> None:
    kept(acme, 1, hard=False)
    assert upload(client).status_code == 202
    assert post(client, "documents", TEXT).status_code == 202


def test_another_tenants_documents_do_not_count(
    acme: Tenant, globex: Tenant, manuals: Collection, client: Client
) -> None:
    theirs = create_collection(globex, name="Manuals")
    add_document(globex, theirs, name="manual.md", content=manual(1))
    kept(acme, 1)
    assert upload(client).status_code == 202


def test_an_address_with_more_bytes_than_there_is_room_for(
    acme: Tenant, manuals: Collection, client: Client, site: Site
) -> None:
    kept(acme, 60, metric="bytes")
    url = site.serves("/page", "<p>Close the valve.</p>")
    assert post(client, "documents", {"collection": "manuals", "url": url}).status_code == 202
    document = ingested(acme, Document.objects.get())
    assert document.status == "ready"
    site.serves("/page", f"<p>{'Close the valve. ' * 10}</p>")
    assert client.post(f"/api/v1/documents/{document.pk}/retry").status_code == 202
    document = ingested(acme, document)
    assert (document.status, document.failure_code) == ("failed", "quota_exceeded")
    assert document.failure_message == (
        "This workspace may keep 60 bytes of documents. Delete some to make room. Then retry."
    )
    assert [file.stat().st_size for file in stored_files()] == [document.size]
    delete_document(acme, document)
    assert stored_files() == []
