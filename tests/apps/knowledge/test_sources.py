"""A document that comes from an address, on its way from the request to its passages, and back for more."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from django.test import Client
from django.utils import timezone

from apps.knowledge.ingest import add_document, delete_document, replace_document, retry_document
from apps.knowledge.models import Collection, Document, Embedding
from apps.knowledge.sources import add_source, replace_source
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit
from chatbot.errors import InvalidRequest
from chatbot.formats import DOCX
from tests.apps.knowledge.asking import client_of, post, refused, upload
from tests.apps.knowledge.ingesting import embedded, ingested, live_texts, manual, stored_files
from tests.fakes.inference import FakeInference
from tests.fakes.site import Site, running_site

PAGE = "<title>Pump guide</title><h1>Seals</h1><p>Close the valve, then replace the rubber seal.</p>"


@pytest.fixture
def site(settings: Any) -> Iterator[Site]:
    settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["localhost"]
    settings.PARLEY_MAX_UPLOAD_BYTES = 2048
    with running_site() as site:
        yield site


@pytest.fixture
def client(acme: Tenant) -> Client:
    return client_of(acme)


def test_it_is_accepted_at_once_and_fetched_by_a_worker(
    acme: Tenant, manuals: Collection, client: Client, site: Site
) -> None:
    url = site.serves("/guide", PAGE, ETag='"v1"')
    response = post(client, "documents", {"collection": "manuals", "url": f"{url}#seals"})
    assert response.status_code == 202
    body = response.json()
    assert (body["title"], body["source_url"], body["status"], body["size"]) == (url, url, "queued", 0)
    assert not site.requests
    document = ingested(acme, Document.objects.get())
    shown = client.get(f"/api/v1/documents/{document.pk}").json()
    assert (shown["title"], shown["file_name"], shown["media_type"]) == ("Pump guide", "guide.html", "text/html")
    assert (shown["status"], shown["size"], shown["failure"]) == ("ready", len(PAGE), None)
    assert shown["fetched_at"]
    assert live_texts(document) == ["Close the valve, then replace the rubber seal."]
    assert stored_files() == [document.stored]


def test_a_given_title_stays(acme: Tenant, manuals: Collection, site: Site) -> None:
    document, _ = add_source(acme, manuals, url=site.serves("/guide", PAGE), title="Ours")
    assert ingested(acme, document).title == "Ours"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://[::1]/",
        "ftp://example.org/",
        "http://user:key@example.org/",
        "example.org",
        "",
        "http://[::1",
        "http://[::1#a",
        "http://a]b/#c",
    ],
)
def test_what_is_never_fetched_is_refused_at_once(manuals: Collection, client: Client, url: str) -> None:
    refused(post(client, "documents", {"collection": "manuals", "url": url}), 400, "url")
    assert not Document.objects.exists()


def test_an_endless_address_is_refused(manuals: Collection, client: Client) -> None:
    url = "https://example.org/" + "a" * 3000
    refused(post(client, "documents", {"collection": "manuals", "url": url}), 400, "url")


def test_a_document_has_one_source(manuals: Collection, client: Client) -> None:
    both = {"collection": "manuals", "url": "https://example.org/", "text": "Text"}
    refused(post(client, "documents", both), 400, "file")


def test_the_same_address_is_one_document_and_is_fetched_again(
    acme: Tenant, manuals: Collection, client: Client, site: Site, embeddings: FakeInference
) -> None:
    url = site.serves("/guide", PAGE, ETag='"v1"')
    document = ingested(acme, add_source(acme, manuals, url=url)[0])
    passages, files, vectors = live_texts(document), stored_files(), embedded(embeddings)
    made = document.chunks.get().pk
    before = document.fetched_at
    again = post(client, "documents", {"collection": "manuals", "url": url})
    assert (again.status_code, again.json()["id"]) == (200, str(document.pk))
    assert again.json()["status"] == "queued"
    ingested(acme, document)
    assert [request.headers.get("If-None-Match") for request in site.requests] == [None, '"v1"']
    # Nothing was touched: the very same rows, bytes and vectors.
    assert (document.status, document.chunks.get().pk) == ("ready", made)
    assert (live_texts(document), stored_files(), embedded(embeddings)) == (passages, files, vectors)
    assert document.fetched_at is not None
    assert before is not None
    assert document.fetched_at > before


def test_unchanged_bytes_touch_nothing_where_the_host_names_no_versions(
    acme: Tenant, manuals: Collection, site: Site
) -> None:
    document = ingested(acme, add_source(acme, manuals, url=site.serves("/guide", PAGE))[0])
    made, files = document.chunks.get().pk, stored_files()
    retry_document(acme, document)
    ingested(acme, document)
    assert (document.status, document.chunks.get().pk, stored_files()) == ("ready", made, files)
    assert len(site.requests) == 2


def test_unchanged_bytes_are_read_anew_where_a_release_before_has_left_passages_without_vectors(
    acme: Tenant, manuals: Collection, site: Site, embeddings: FakeInference
) -> None:
    document = ingested(acme, add_source(acme, manuals, url=site.serves("/guide", PAGE, ETag='"v1"'))[0])
    Embedding.objects.for_tenant(acme).all().delete()
    retry_document(acme, document)
    assert ingested(acme, document).status == "ready"
    assert len(site.requests) == 2
    assert Embedding.objects.for_tenant(acme).filter(live=True).count() == document.passages == 1
    assert len(embedded(embeddings)) == 2


def test_changed_content_takes_the_place_of_the_old(
    acme: Tenant, manuals: Collection, client: Client, site: Site
) -> None:
    url = site.serves("/guide", PAGE)
    document = ingested(acme, add_source(acme, manuals, url=url)[0])
    site.serves("/guide", PAGE.replace("rubber", "steel"))
    assert client.post(f"/api/v1/documents/{document.pk}/retry").status_code == 202
    document.refresh_from_db()
    assert document.status == "queued"
    assert live_texts(document) == ["Close the valve, then replace the rubber seal."]
    ingested(acme, document)
    assert live_texts(document) == ["Close the valve, then replace the steel seal."]
    assert stored_files() == [document.stored]


def test_a_page_that_is_gone_fails_and_what_was_read_stays(acme: Tenant, manuals: Collection, site: Site) -> None:
    document = ingested(acme, add_source(acme, manuals, url=site.serves("/guide", PAGE))[0])
    del site.pages["/guide"]
    retry_document(acme, document)
    ingested(acme, document)
    assert (document.status, document.failure_code) == ("failed", "fetch_failed")
    assert document.failure_message == "There is no document at this address."
    assert len(live_texts(document)) == 1
    site.serves("/guide", PAGE)
    retry_document(acme, document)
    assert ingested(acme, document).status == "ready"


def test_a_host_parks_no_document_for_years(acme: Tenant, manuals: Collection, site: Site) -> None:
    site.pages["/guide"] = lambda _: web.Response(status=503, headers={"Retry-After": "99999999"})
    document = ingested(acme, add_source(acme, manuals, url=f"{site.url}/guide")[0])
    wait = document.next_attempt_at - document.updated
    assert datetime.timedelta(minutes=59) < wait <= datetime.timedelta(minutes=61)


def test_a_host_that_is_down_is_asked_again_by_itself(acme: Tenant, manuals: Collection, site: Site) -> None:
    site.pages["/guide"] = lambda _: web.Response(status=503)
    document = ingested(acme, add_source(acme, manuals, url=f"{site.url}/guide")[0])
    assert (document.status, document.failure_code) == ("retrying", "source_unavailable")
    assert document.next_attempt_at > timezone.now() + datetime.timedelta(seconds=5)
    site.serves("/guide", PAGE)
    retry_document(acme, document)
    assert ingested(acme, document).status == "ready"


def test_a_page_with_another_documents_content_names_it(acme: Tenant, manuals: Collection, site: Site) -> None:
    ingested(acme, add_source(acme, manuals, url=site.serves("/one", PAGE))[0])
    second = ingested(acme, add_source(acme, manuals, url=site.serves("/two", PAGE))[0])
    assert (second.status, second.failure_code) == ("failed", "duplicate")
    assert "as “Pump guide”" in second.failure_message
    assert len(stored_files()) == 1
    site.serves("/two", PAGE.replace("rubber", "steel"))
    retry_document(acme, second)
    assert ingested(acme, second).status == "ready"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ((b"\x89PNG", "image/png"), "unsupported_type"),
        ((b"no archive", DOCX), "unsupported_type"),
        ((b"x" * 3000, "text/plain"), "too_large"),
        ((b"<p></p>", "text/html"), "empty"),
    ],
)
def test_what_cannot_be_read_fails(
    acme: Tenant, manuals: Collection, site: Site, sent: tuple[bytes, str], code: str
) -> None:
    document = ingested(acme, add_source(acme, manuals, url=site.serves("/thing", *sent))[0])
    assert (document.status, document.failure_code) == ("failed", code)
    assert document.failure_message.endswith(".")


def test_a_worker_that_lost_the_document_writes_nothing(acme: Tenant, manuals: Collection, site: Site) -> None:
    document, _ = add_source(acme, manuals, url=f"{site.url}/guide")

    async def answer(_: web.Request) -> web.Response:
        await platform_unit(Document.objects.filter(pk=document.pk).update, lease_token=None)
        return web.Response(text=PAGE, content_type="text/html")

    site.pages["/guide"] = answer
    ingested(acme, document)
    assert (document.stored, document.status) == ("", "extracting")
    assert not stored_files()


@pytest.mark.usefixtures("manuals")
class TestReplacing:
    def test_a_file_by_an_address_and_back(self, acme: Tenant, client: Client, site: Site) -> None:
        document = ingested(acme, Document.objects.get(pk=upload(client).json()["id"]))
        url = site.serves("/guide", PAGE)
        path = f"/api/v1/documents/{document.pk}"
        response = client.put(path, {"url": url}, content_type="application/json")
        assert (response.status_code, response.json()["source_url"]) == (202, url)
        assert len(live_texts(document)) == 1
        ingested(acme, document)
        assert live_texts(document) == ["Close the valve, then replace the rubber seal."]
        response = client.put(path, {"text": "Only words."}, content_type="application/json")
        assert (response.json()["source_url"], response.json()["fetched_at"]) == ("", None)
        assert live_texts(ingested(acme, document)) == ["Only words."]
        assert stored_files() == [document.stored]

    def test_an_address_by_another(self, acme: Tenant, manuals: Collection, site: Site) -> None:
        document = ingested(acme, add_source(acme, manuals, url=site.serves("/guide", PAGE, ETag='"v1"'))[0])
        other = site.serves("/other", PAGE, ETag='"v1"')
        replace_source(acme, document, url=other)
        ingested(acme, document)
        assert (document.status, document.source_url) == ("ready", other)
        assert site.requests[-1].headers.get("If-None-Match") is None

    def test_an_address_that_another_document_has(self, acme: Tenant, manuals: Collection) -> None:
        add_source(acme, manuals, url="https://example.org/a")
        document, _ = add_source(acme, manuals, url="https://example.org/b")
        with pytest.raises(InvalidRequest) as raised:
            replace_source(acme, document, url="https://example.org/a")
        assert raised.value.fields is not None
        assert "Another document" in raised.value.fields["url"]

    def test_while_it_is_yet_to_be_fetched(self, acme: Tenant, manuals: Collection) -> None:
        document, _ = add_source(acme, manuals, url="https://example.org/a")
        replace_document(acme, document, name="manual.md", content=manual(1))
        assert ingested(acme, document).status == "ready"


def test_one_that_was_not_fetched_yet_can_be_deleted(acme: Tenant, manuals: Collection) -> None:
    document, _ = add_source(acme, manuals, url="https://example.org/a")
    delete_document(acme, document)
    assert not Document.objects.exists()


def test_other_collections_and_files_do_not_matter(acme: Tenant, globex: Tenant, manuals: Collection) -> None:
    first, _ = add_source(acme, manuals, url="https://example.org/a")
    second, new = add_source(acme, manuals, url="https://example.org/b")
    assert new
    assert first.pk != second.pk
    add_document(acme, manuals, name="manual.md", content=manual(1))
    assert Document.objects.count() == 3
