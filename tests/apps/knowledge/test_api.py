"""Collections, documents and search over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import AsyncClient, Client

from apps.knowledge.collections import create_collection
from apps.knowledge.ingest import add_document, ingest
from apps.knowledge.models import Chunk, Collection, Document
from apps.tenants.models import Tenant
from tests.apps.knowledge.asking import GUIDE, client_of, post, refused, stored_files, upload
from tests.factories import make_key
from tests.fakes.inference import FakeInference, Reply


@pytest.fixture
def client(acme: Tenant) -> Client:
    return client_of(acme)


@pytest.fixture
def outsider(globex: Tenant) -> Client:
    return client_of(globex)


# --- Documents --------------------------------------------------------------------------------------------------------


def test_an_upload_is_accepted_ingested_and_shown(client: Client, acme: Tenant, manuals: Collection) -> None:
    response = upload(client)
    assert response.status_code == 202
    body = response.json()
    assert body["status"] == "queued"
    ingest(acme.pk, body["id"])
    shown = client.get(f"/api/v1/documents/{body['id']}").json()
    assert shown.pop("created")
    assert shown.pop("ready_at")
    assert shown == {
        "id": body["id"],
        "collection": "manuals",
        "title": "Pump guide",
        "file_name": "guide.md",
        "source_url": "",
        "fetched_at": None,
        "media_type": "text/markdown",
        "size": len(GUIDE),
        "status": "ready",
        "ahead": None,
        "progress": {"done": 1, "total": 1, "unit": "passages"},
        "failure": None,
        "retry_at": None,
        "tags": [],
        "fields": {},
        "language": "",
        "stemming": "english",
        "pages": 1,
        "passages": 1,
    }


def test_known_bytes_answer_with_their_document(client: Client, manuals: Collection) -> None:
    first, second = upload(client), upload(client, name="copy.md")
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["id"] == second.json()["id"]


def test_a_text_needs_no_file(client: Client, acme: Tenant, manuals: Collection) -> None:
    response = post(client, "documents", {"collection": str(manuals.pk), "text": GUIDE.decode(), "title": "Guide"})
    assert response.status_code == 202
    ingest(acme.pk, response.json()["id"])
    shown = client.get(f"/api/v1/documents/{response.json()['id']}").json()
    assert (shown["status"], shown["title"], shown["file_name"]) == ("ready", "Guide", "")


def test_a_failure_is_shown_and_can_be_retried(client: Client, acme: Tenant, manuals: Collection) -> None:
    document = upload(client, b"%PDF-1.7 broken", "broken.pdf").json()["id"]
    ingest(acme.pk, document)
    shown = client.get(f"/api/v1/documents/{document}").json()
    assert shown["status"] == "failed"
    assert shown["failure"]["code"] == "parser"
    assert shown["failure"]["message"].endswith(".")
    again = client.post(f"/api/v1/documents/{document}/retry")
    assert (again.status_code, again.json()["status"], again.json()["failure"]) == (202, "queued", None)


def test_a_document_is_replaced_and_deleted(client: Client, acme: Tenant, manuals: Collection) -> None:
    document = upload(client).json()["id"]
    ingest(acme.pk, document)
    address = f"/api/v1/documents/{document}"
    same = client.put(address, {"text": GUIDE.decode()}, content_type="application/json")
    assert same.status_code == 200
    other = client.put(address, {"text": "# Other\n\nOther text."}, content_type="application/json")
    assert (other.status_code, other.json()["status"]) == (202, "queued")
    ingest(acme.pk, document)
    assert "Other text." in Chunk.objects.get(live=True).text
    assert client.delete(address).status_code == 204
    refused(client.get(address), 404)
    refused(client.delete(address), 404)
    assert stored_files() == []


def test_documents_are_listed_by_collection_and_status(client: Client, acme: Tenant, manuals: Collection) -> None:
    other = create_collection(acme, name="Other")
    ready, _ = add_document(acme, manuals, name="a.md", content=b"Text a.")
    queued, _ = add_document(acme, manuals, name="b.md", content=b"Text b.")
    elsewhere, _ = add_document(acme, other, name="c.md", content=b"Text c.")
    ingest(acme.pk, ready.pk)

    def listed(query: str) -> list[str]:
        return [row["id"] for row in client.get(f"/api/v1/documents{query}").json()["results"]]

    assert listed("") == [str(elsewhere.pk), str(queued.pk), str(ready.pk)]
    assert listed("?collection=manuals") == [str(queued.pk), str(ready.pk)]
    assert listed(f"?collection={other.pk}") == [str(elsewhere.pk)]
    assert listed("?status=ready") == [str(ready.pk)]
    refused(client.get("/api/v1/documents?status=lost"), 400, "status")
    refused(client.get("/api/v1/documents?collection=none"), 404)
    first = client.get("/api/v1/documents?limit=2").json()
    second = client.get(first["next"]).json()
    assert [row["id"] for row in second["results"]] == [str(ready.pk)]


def test_listing_a_page_costs_the_same_for_any_number(
    client: Client, acme: Tenant, manuals: Collection, django_assert_max_num_queries: Any
) -> None:
    for number in range(20):
        add_document(acme, manuals, name="a.md", content=f"Text {number}.".encode())
    client.get("/api/v1/documents")
    with django_assert_max_num_queries(8):  # two of them are the savepoint that the test's transaction makes of ours
        assert len(client.get("/api/v1/documents").json()["results"]) == 20


# --- Collections ------------------------------------------------------------------------------------------------------


def test_a_collection_is_created_changed_and_deleted(client: Client, acme: Tenant, endpoint: Any) -> None:
    created = post(client, "collections", {"name": "Spare Parts", "description": "All of them"})
    assert created.status_code == 201
    assert created.json()["slug"] == "spare-parts"
    address = f"/api/v1/collections/{created.json()['id']}"
    changed = client.patch(address, {"name": "Parts", "slug": "ignored"}, content_type="application/json").json()
    assert (changed["name"], changed["slug"], changed["description"]) == ("Parts", "spare-parts", "All of them")
    document, _ = add_document(acme, Collection.objects.get(), name="a.md", content=b"Text a.")
    ingest(acme.pk, document.pk)
    assert client.get("/api/v1/collections/spare-parts").json()["documents"] == 1
    assert client.delete("/api/v1/collections/spare-parts").status_code == 204
    assert (Document.objects.count(), Chunk.objects.count(), stored_files()) == (0, 0, [])
    refused(client.get(address), 404)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "Manuals", "slug": "Not A Slug"}, "slug"),
        ({"name": "Manuals"}, "slug"),
    ],
)
def test_invalid_collections_name_their_field(
    client: Client, manuals: Collection, body: dict[str, Any], field: str
) -> None:
    refused(post(client, "collections", body), 400, field)


def test_a_name_without_latin_letters_gets_a_slug(client: Client, endpoint: Any) -> None:
    assert post(client, "collections", {"name": "説明書"}).json()["slug"] == "collection"


def test_without_an_embedding_endpoint_there_is_no_collection(client: Client, endpoint: Any) -> None:
    endpoint.delete()
    assert refused(post(client, "collections", {"name": "Manuals"}), 503)["code"] == "model_unavailable"


@pytest.mark.parametrize("key", ["none", "%00", "a%00b", "x" * 500, "..", "%F0%9F%98%80"])
def test_unknown_keys_of_a_collection_are_404(client: Client, manuals: Collection, key: str) -> None:
    assert client.get(f"/api/v1/collections/{key}").status_code == 404


# --- Search -----------------------------------------------------------------------------------------------------------


def test_search_answers_with_numbered_passages(client: Client, acme: Tenant, manuals: Collection) -> None:
    document = upload(client).json()["id"]
    ingest(acme.pk, document)
    (found,) = post(client, "search", {"collection": "manuals", "query": "Replace the seal?"}).json()["results"]
    assert (found["n"], found["document"], found["title"]) == (1, document, "Pump guide")
    assert "rubber seal" in found["text"]


def test_search_goes_on_without_vectors(
    client: Client, acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    ingest(acme.pk, upload(client).json()["id"])
    embeddings.script(Reply(kind="embedding", status=500, always=True))
    answer = post(client, "search", {"collection": "manuals", "query": "seals"}).json()
    assert len(answer["results"]) == 1
    (said,) = answer["timings"]["degraded"]
    assert said.startswith("vector: model_")


@pytest.mark.parametrize(
    "query",
    [
        "x",
        "the of and",
        "😀" * 500,
        "מה זה אטם؟ ما هو",
        "\u202eseal",
        "'; DROP TABLE knowledge_chunk; --",
        "1' OR '1'='1' UNION SELECT * FROM pg_user",
        "a & b | !c <-> 'd",
        "%s %(x)s {0} $1",
        "seal " * 3_199,
    ],
    ids=["letter", "stop-words", "emoji", "right-to-left", "turned", "sql", "union", "tsquery", "formats", "long"],
)
def test_odd_searches_are_answered(client: Client, acme: Tenant, manuals: Collection, query: str) -> None:
    ingest(acme.pk, upload(client).json()["id"])
    answer = post(client, "search", {"collection": "manuals", "query": query})
    assert answer.status_code == 200
    assert [found["title"] for found in answer.json()["results"]] == ["Pump guide"]  # by its vector, if by nothing else


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"collection": "manuals"}, "query"),
        ({"collection": "manuals", "query": ""}, "query"),
        ({"collection": "manuals", "query": "a\0b"}, "query"),
        ({"collection": "manuals", "query": " \n\t"}, "query"),
        ({"collection": "manuals", "query": "x" * 16_001}, "query"),
        ({"collection": "manuals", "query": "seal " * 10_000}, "query"),
        ({"collection": "manuals", "query": "x", "limit": 0}, "limit"),
        ({"collection": "manuals", "query": "x", "limit": 51}, "limit"),
        ({"query": "x"}, "collection"),
    ],
)
def test_invalid_searches_name_their_field(
    client: Client, manuals: Collection, body: dict[str, Any], field: str
) -> None:
    refused(post(client, "search", body), 400, field)


async def test_everything_works_on_the_servers_own_loop_too(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    headers = {"Authorization": f"Bearer {await sync_to_async(make_key)(tenant=acme)}"}
    client = AsyncClient()
    form = {"collection": "manuals", "file": SimpleUploadedFile("guide.md", GUIDE)}
    uploaded = await client.post("/api/v1/documents", form, headers=headers)
    assert uploaded.status_code == 202
    await sync_to_async(ingest, thread_sensitive=False)(acme.pk, uploaded.json()["id"])
    asked = {"collection": "manuals", "query": "seal"}
    found = await client.post("/api/v1/search", asked, content_type="application/json", headers=headers)
    assert len(found.json()["results"]) == 1
