"""The admin of collections and documents: uploading, following the ingestion, reading, deleting."""

from __future__ import annotations

import datetime
import io
import zipfile
from typing import Any
from unittest.mock import ANY

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.inference.models import Endpoint
from apps.knowledge.models import Collection, Document
from apps.knowledge.sources import add_source
from apps.tenants.models import AuditEntry, Tenant
from tests import factories
from tests.apps.admin_world import World, logged_in, make_world

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def bob(world: World) -> Client:
    return logged_in(world.bob)


def collection_of(tenant: Tenant) -> Collection:
    found: Collection = Collection.objects.for_tenant(tenant).get()
    return found


def document_of(tenant: Tenant) -> Document:
    found: Document = Document.objects.for_tenant(tenant).get()
    return found


def upload_url(collection: Collection) -> str:
    return reverse("admin:knowledge_collection_upload", args=[collection.pk])


def file(name: str = "cleaning.md", content: bytes = b"# Cleaning\n\nEvery week.") -> dict[str, Any]:
    return {"file": SimpleUploadedFile(name, content)}


# --- Upload -----------------------------------------------------------------------------------------------------------


def test_uploaded_file_is_a_queued_document_of_its_uploader(world: World, bob: Client) -> None:
    response = bob.post(upload_url(collection_of(world.acme)), file())
    assert response.status_code == 202
    document = Document.objects.for_tenant(world.acme).get(pk=response.json()["id"])
    assert (document.status, document.file_name, document.created_by) == ("queued", "cleaning.md", world.bob)
    assert "Queued" in response.json()["html"]
    assert response.json()["finished"] is False


def test_same_bytes_again_are_the_same_document(world: World, bob: Client) -> None:
    url = upload_url(collection_of(world.acme))
    first, second = bob.post(url, file()), bob.post(url, file("other name.md"))
    assert second.status_code == 200
    assert (second.json()["id"], second.json()["created"]) == (first.json()["id"], False)


def test_an_archives_files_are_taken_or_refused_one_by_one(world: World, bob: Client) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("manuals/pump.md", "# Pump\n\nClose the valve.")
        archive.writestr("virus.exe", b"MZ\x90\x00")
    response = bob.post(upload_url(collection_of(world.acme)), file("all.zip", packed.getvalue()))
    assert response.status_code == 202
    pump, virus = response.json()["results"]
    document = Document.objects.for_tenant(world.acme).get(pk=pump["id"])
    assert (document.file_name, document.created_by, pump["created"]) == ("pump.md", world.bob, True)
    assert AuditEntry.objects.filter(action="document.added", row_id=str(document.pk)).exists()
    assert virus == {"name": "virus.exe", "message": ANY}
    assert "cannot be read" in virus["message"]


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (file("virus.exe", b"MZ\x90\x00"), (415, "")),
        (file("letter.pdf", b"PK\x03\x04 a zip"), (415, "PDF")),
        (file(content=b"a" * 3000), (413, "MiB")),
        ({}, (400, "not valid")),
    ],
)
def test_what_cannot_be_taken_is_refused_in_words(
    world: World, bob: Client, settings: Any, content: dict[str, Any], refusal: tuple[int, str]
) -> None:
    settings.PARLEY_MAX_UPLOAD_BYTES = 2048
    response = bob.post(upload_url(collection_of(world.acme)), content)
    assert response.status_code == refusal[0]
    assert refusal[1] in response.json()["message"]
    assert Document.objects.for_tenant(world.acme).count() == 1


def test_upload_without_csrf_token_is_refused(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.bob, backend="django.contrib.auth.backends.ModelBackend")
    assert client.post(upload_url(collection_of(world.acme)), file()).status_code == 403
    assert Document.objects.for_tenant(world.acme).count() == 1


def test_body_that_announces_too_much_is_refused_before_it_is_read(world: World) -> None:
    client = Client(enforce_csrf_checks=True)  # the token stands in the body: checking it first would read everything
    client.force_login(world.bob, backend="django.contrib.auth.backends.ModelBackend")
    response = client.post(upload_url(collection_of(world.acme)), file(), headers={"content-length": str(10**9)})
    assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")


def test_outsider_uploads_nowhere(world: World) -> None:
    response = logged_in(world.charlie).post(upload_url(collection_of(world.acme)), file())
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert Document.objects.for_tenant(world.acme).count() == 1


# --- Following the ingestion ------------------------------------------------------------------------------------------


def test_status_tells_of_own_documents_only_and_escapes_what_people_wrote(world: World, bob: Client) -> None:
    own, foreign = document_of(world.acme), document_of(world.globex)
    own.status, own.failure_message = Document.Status.FAILED, "<b>Unreadable</b>"
    own.save()
    response = bob.get(reverse("admin:knowledge_document_status"), {"id": [str(own.pk), str(foreign.pk), "not-an-id"]})
    (state,) = response.json()["documents"]
    assert (state["id"], state["finished"]) == (str(own.pk), True)
    assert "&lt;b&gt;Unreadable&lt;/b&gt;" in state["html"]


def test_progress_is_shown_in_passages(world: World, bob: Client) -> None:
    document = document_of(world.acme)
    document.status, document.progress_done, document.progress_total = Document.Status.EMBEDDING, 1200, 4000
    document.save()
    page = bob.get(reverse("admin:knowledge_document_changelist")).content.decode()
    assert "1,200 of 4,000 passages" in page
    assert "width: 30%" in page


def test_pages_places_and_the_next_attempt_are_told(world: World, bob: Client) -> None:
    document, address = document_of(world.acme), reverse("admin:knowledge_document_status")

    def told(**fields: Any) -> str:
        Document.objects.filter(pk=document.pk).update(**fields)
        (state,) = bob.get(address, {"id": [str(document.pk)]}).json()["documents"]
        return str(state["html"])

    assert "3 of 7 pages" in told(status="extracting", progress_done=3, progress_total=7)
    older = document.created - datetime.timedelta(days=1)
    factories.make_document(tenant=world.acme, collection=document.collection, status="queued", created=older)
    assert "About 1 before it" in told(status="queued", lease_until=None)
    soon = timezone.now() + datetime.timedelta(seconds=170)
    assert "Busy. Tried again in 3 min." in told(status="retrying", failure_message="Busy.", next_attempt_at=soon)


def test_failure_is_told_and_retried_by_a_post_only(world: World, bob: Client) -> None:
    document = document_of(world.acme)
    document.status, document.failure_message = Document.Status.FAILED, "The PDF is encrypted."
    document.save()
    assert "The PDF is encrypted." in bob.get(reverse("admin:knowledge_document_change", args=[document.pk])).text
    url = reverse("admin:knowledge_document_retry", args=[document.pk])
    assert bob.get(url).status_code == 405
    document.refresh_from_db()
    assert document.status == Document.Status.FAILED
    bob.post(url)
    document.refresh_from_db()
    assert (document.status, document.failure_message) == (Document.Status.QUEUED, "")


def test_a_language_is_given_by_a_post_and_shown(world: World, bob: Client) -> None:
    document = document_of(world.acme)
    url = reverse("admin:knowledge_document_language", args=[document.pk])
    page = reverse("admin:knowledge_document_change", args=[document.pk])
    assert bob.get(url).status_code == 405
    assert "There is no such language." in bob.post(url, {"language": "xx"}, follow=True).text
    document.refresh_from_db()
    assert (document.language, document.status) == ("", Document.Status.READY)
    bob.post(url, {"language": "de"})
    document.refresh_from_db()
    assert (document.language, document.status) == ("de", Document.Status.QUEUED)
    assert '<option value="de" selected>German</option>' in bob.get(page).text
    outsider = logged_in(world.charlie)
    assert outsider.post(url, {"language": "fr"}).status_code == 404


# --- Documents --------------------------------------------------------------------------------------------------------


def test_passages_come_in_pages_with_heading_and_page(
    world: World, bob: Client, django_assert_max_num_queries: Any
) -> None:
    document = document_of(world.acme)
    for position in range(45):
        factories.make_passage(
            tenant=world.acme,
            document=document,
            text=f"Passage text {position}.",
            heading=["Installation", "First use"],
            page=7,
            position=position + 10,
        )
    url = reverse("admin:knowledge_document_change", args=[document.pk])
    with django_assert_max_num_queries(25):
        page = bob.get(url, {"page": "2"}).content.decode()
    assert page.count('class="p-passage"') == 20
    assert "Installation › First use" in page
    assert "Page 7" in page


def test_deleted_document_leaves_no_bytes(world: World, bob: Client, django_capture_on_commit_callbacks: Any) -> None:
    document = document_of(world.acme)
    with django_capture_on_commit_callbacks(execute=True):
        bob.post(reverse("admin:knowledge_document_delete", args=[document.pk]), {"post": "yes"})
    assert not Document.objects.for_tenant(world.acme).exists()
    assert not default_storage.exists(document.stored)


def test_download_never_opens_in_our_origin(world: World, bob: Client) -> None:
    document = document_of(world.acme)
    response = bob.get(reverse("admin:knowledge_document_download", args=[document.pk]))
    assert b"".join(response.streaming_content) == b"The acme handbook."
    assert response["Content-Disposition"].startswith("attachment")
    assert response["Content-Security-Policy"] == "sandbox"


# --- Collections ------------------------------------------------------------------------------------------------------


def test_new_collection_gets_an_index_and_leads_to_the_upload(world: World, bob: Client) -> None:
    response = bob.post(reverse("admin:knowledge_collection_add"), {"name": "FAQ", "slug": "faq", "description": ""})
    collection = Collection.objects.for_tenant(world.acme).select_related("index__endpoint").get(slug="faq")
    assert collection.index.endpoint.name == "acme embedding"
    assert response["Location"] == upload_url(collection)


def test_taken_slug_is_told_at_the_form(world: World, bob: Client) -> None:
    response = bob.post(reverse("admin:knowledge_collection_add"), {"name": "Again", "slug": "acme-manuals"})
    assert response.status_code == 200
    assert "already exists" in response.content.decode()


def test_collection_without_embedding_endpoint_is_refused_in_words(world: World, bob: Client) -> None:
    Endpoint.objects.filter(kind=Endpoint.Kind.EMBEDDING).update(enabled=False)
    response = bob.post(reverse("admin:knowledge_collection_add"), {"name": "FAQ", "slug": "faq"})
    assert "No embedding endpoint serves this tenant yet" in response.content.decode()


def test_list_counts_documents_by_state(world: World, bob: Client) -> None:
    collection = collection_of(world.acme)
    for status in ("failed", "queued", "embedding"):
        factories.make_document(
            tenant=world.acme, collection=collection, status=status, failure_message="Broken.", size=2 * 1024 * 1024
        )
    page = " ".join(bob.get(reverse("admin:knowledge_collection_changelist")).content.decode().split())
    for words in ("1 ready", "2 in progress", "1 failed", "6.0 MB"):
        assert words in page


def test_list_costs_the_same_for_many_collections(
    world: World, bob: Client, django_assert_max_num_queries: Any
) -> None:
    index = collection_of(world.acme).index
    for _ in range(30):
        factories.make_collection(tenant=world.acme, index=index)
    with django_assert_max_num_queries(15):
        bob.get(reverse("admin:knowledge_collection_changelist"))


# --- Addresses and texts ----------------------------------------------------------------------------------------------


def test_an_address_and_a_text_are_added_like_a_file(world: World, bob: Client) -> None:
    url = upload_url(collection_of(world.acme))
    page = bob.post(url, {"url": "https://example.org/guide"})
    assert (page.status_code, page.json()["title"]) == (202, "https://example.org/guide")
    assert bob.post(url, {"url": "https://example.org/guide"}).json()["created"] is False
    text = bob.post(url, {"title": "Opening hours", "text": "Monday to Friday"})
    assert (text.status_code, text.json()["title"]) == (202, "Opening hours")
    added = Document.objects.for_tenant(world.acme).filter(created_by=world.bob)
    assert {(row.source_url, row.to_fetch, row.size) for row in added} == {
        ("https://example.org/guide", True, 0),
        ("", False, len("Monday to Friday")),
    }


def test_an_inner_address_is_refused_in_words(world: World, bob: Client) -> None:
    refusal = bob.post(upload_url(collection_of(world.acme)), {"url": "http://10.0.0.1/"})
    assert (refusal.status_code, list(refusal.json()["fields"])) == (400, ["url"])


def test_a_document_shows_where_it_comes_from_and_is_fetched_again(world: World, bob: Client) -> None:
    document = document_of(world.acme)
    document.source_url = "https://example.org/?a=<b>&c"
    document.status, document.ready_at, document.fetched_at = Document.Status.READY, timezone.now(), timezone.now()
    document.save()
    address = reverse("admin:knowledge_document_change", args=[document.pk])
    page = bob.get(address).content.decode()
    assert 'href="https://example.org/?a=&lt;b&gt;&amp;c" target="_blank" rel="noopener noreferrer"' in page
    assert "Fetch again" in page
    bob.post(reverse("admin:knowledge_document_retry", args=[document.pk]))
    document.refresh_from_db()
    assert (document.status, document.to_fetch) == (Document.Status.QUEUED, True)
    document.status = Document.Status.EXTRACTING
    document.save()
    assert "Fetching it from example.org" in bob.get(address).content.decode()


def test_what_was_not_fetched_yet_cannot_be_downloaded(world: World, bob: Client) -> None:
    document, _ = add_source(world.acme, collection_of(world.acme), url="https://example.org/guide")
    assert bob.get(reverse("admin:knowledge_document_download", args=[document.pk])).status_code == 404
    assert "Download" not in bob.get(reverse("admin:knowledge_document_change", args=[document.pk])).text
