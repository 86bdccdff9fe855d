"""Collections, documents and search over HTTP: what is accepted, what is refused, and what stays hidden."""

from __future__ import annotations

import io
import json
import uuid
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import AsyncClient, Client

from apps.knowledge.collections import create_collection
from apps.knowledge.ingest import add_document, ingest
from apps.knowledge.models import Chunk, Collection, Document
from apps.tenants.models import Tenant
from tests.factories import make_key
from tests.fakes.inference import FakeInference, Reply

GUIDE = b"# Pump guide\n\nClose the valve, then replace the rubber seal."


@pytest.fixture
def client(acme: Tenant) -> Client:
    return client_of(acme)


@pytest.fixture
def outsider(globex: Tenant) -> Client:
    return client_of(globex)


def client_of(tenant: Tenant) -> Client:
    return Client(headers={"Authorization": f"Bearer {make_key(tenant=tenant)}"})


def upload(client: Client, content: bytes = GUIDE, name: str = "guide.md", **fields: str) -> Any:
    form = {"collection": "manuals", "file": SimpleUploadedFile(name, content), **fields}
    return client.post("/api/v1/documents", form)


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(f"/api/v1/{path}", body, content_type="application/json")


def refused(response: Any, status: int, *fields: str) -> dict[str, Any]:
    """The body of a refusal that has the one shape of errors and names just these fields."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, sorted(body.get("fields", {}))) == (status, sorted(fields)), body
    assert body["code"]
    assert body["message"]
    return body


def stored_files() -> list[Any]:
    return [path for path in django_settings.MEDIA_ROOT.rglob("*") if path.is_file()]


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
        "media_type": "text/markdown",
        "size": len(GUIDE),
        "status": "ready",
        "progress": {"done": 1, "total": 1, "unit": "passages"},
        "failure": None,
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
    with django_assert_max_num_queries(3):
        assert len(client.get("/api/v1/documents").json()["results"]) == 20


# --- What is refused --------------------------------------------------------------------------------------------------


def test_what_is_too_large_is_refused_before_it_is_read(client: Client, manuals: Collection, settings: Any) -> None:
    settings.PARLEY_MAX_UPLOAD_BYTES = 100_000
    body = refused(upload(client, b"x" * 200_000, "big.txt"), 413)
    assert "MiB" in body["message"]
    refused(upload(client, b"x" * 100_001, "big.txt"), 413)  # within what the form around it may add
    assert stored_files() == []
    assert upload(client, b"x " * 50_000, "fits.txt").status_code == 202
    refused(post(client, "documents", {"collection": "manuals", "text": "x" * 2**20}), 413)


def test_a_declared_length_is_enough_to_refuse(client: Client, manuals: Collection) -> None:
    form = "multipart/form-data; boundary=x"
    for method in ("post", "put"):
        path = f"/api/v1/documents/{upload(client).json()['id']}" if method == "put" else "/api/v1/documents"
        request: Any = {"CONTENT_LENGTH": str(2**33), "wsgi.input": Unread()}
        refused(client.generic(method.upper(), path, b"-", content_type=form, **request), 413)


class Unread(io.BytesIO):
    def read(self, *_: Any) -> bytes:
        raise AssertionError("the body of a refused upload was read")


def test_a_body_of_unknown_length_is_refused_with_the_remedy(client: Client, manuals: Collection) -> None:
    response = client.generic("POST", "/api/v1/documents", b"", headers={"Transfer-Encoding": "chunked"})
    assert "Content-Length" in refused(response, 400)["message"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("photo.png", b"\x89PNG"), ("manual.pdf", b"PK\x03\x04"), ("manual.txt", b"\x7fELF\x00\x01"), ("x", b"text")],
)
def test_unsupported_and_mislabelled_files_are_refused(
    client: Client, manuals: Collection, name: str, content: bytes
) -> None:
    assert refused(upload(client, content, name), 415)["code"] == "unsupported_type"
    assert stored_files() == []


def test_the_label_in_the_form_is_not_believed(client: Client, manuals: Collection) -> None:
    file = SimpleUploadedFile("tool.exe", b"MZ\x90\x00", content_type="application/pdf")
    refused(client.post("/api/v1/documents", {"collection": "manuals", "file": file}), 415)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"collection": "manuals", "text": "a\0b"}, "text"),
        ({"collection": "manuals", "text": ""}, "text"),
        ({"collection": "manuals", "text": "a", "title": "a\0b"}, "title"),
        ({"collection": "manuals", "text": "a", "title": "x" * 301}, "title"),
        ({"collection": "man\0uals", "text": "a"}, "collection"),
        ({"collection": "x" * 65, "text": "a"}, "collection"),
        ({"text": "a"}, "collection"),
        ({"collection": "manuals"}, "file"),
        ({"collection": "manuals", "url": "http://169.254.169.254/"}, "url"),
        ({"collection": "manuals", "text": ["a"]}, "text"),
    ],
)
def test_invalid_input_names_its_field(client: Client, manuals: Collection, body: dict[str, Any], field: str) -> None:
    refused(post(client, "documents", body), 400, field)
    assert stored_files() == []


@pytest.mark.parametrize("body", ["{", "", "[]", "null", '"text"', "[" * 100_000])
def test_broken_bodies_are_refused(client: Client, manuals: Collection, body: str) -> None:
    for path in ("documents", "collections", "search"):
        response = client.generic("POST", f"/api/v1/{path}", body.encode(), content_type="application/json")
        assert response.status_code == 400, (path, response.content)


def test_a_broken_form_is_refused(client: Client, manuals: Collection) -> None:
    response = client.generic("POST", "/api/v1/documents", b"nonsense", content_type="multipart/form-data")
    assert "form" in refused(response, 400)["message"]


def test_an_empty_file_is_refused(client: Client, manuals: Collection) -> None:
    refused(upload(client, b"", "empty.md"), 400, "file")


# --- Tenants ----------------------------------------------------------------------------------------------------------


def test_without_a_key_there_is_no_way_in(manuals: Collection) -> None:
    for method, path in every_route(str(uuid.uuid4()), "manuals"):
        assert refused(getattr(Client(), method)(path), 401)["code"] == "not_authenticated"


def test_anothers_things_are_as_unknown_as_those_that_never_were(
    client: Client, outsider: Client, acme: Tenant, manuals: Collection
) -> None:
    document = upload(client).json()["id"]
    ingest(acme.pk, document)
    mine = zip(every_route(document, "manuals"), every_route(document, str(manuals.pk)), strict=True)
    never = every_route(str(uuid.uuid4()), "never-was")
    for foreign, (method, unknown) in zip(mine, never, strict=True):
        for _, path in foreign:
            answers = [ask(outsider, method, address) for address in (path, unknown)]
            bodies = [{**answer.json(), "request_id": ""} for answer in answers]
            assert [answer.status_code for answer in answers] == [404, 404], path
            assert bodies[0] == bodies[1]
    assert Document.objects.get().status == "ready"
    for path in ("documents", "collections"):
        assert outsider.get(f"/api/v1/{path}").json()["results"] == []


def test_the_same_slug_is_another_collection_for_another_tenant(
    client: Client, outsider: Client, acme: Tenant, globex: Tenant, manuals: Collection
) -> None:
    create_collection(globex, name="Manuals")
    ingest(acme.pk, upload(client).json()["id"])
    asked = {"collection": "manuals", "query": "Replace the seal"}
    assert len(post(client, "search", asked).json()["results"]) == 1
    assert post(outsider, "search", asked).json()["results"] == []
    assert upload(outsider).status_code == 202  # the same bytes, and still a new document
    assert Document.objects.count() == 2


def every_route(document: str, collection: str) -> list[tuple[str, str]]:
    return [
        ("get", f"/api/v1/documents/{document}"),
        ("put", f"/api/v1/documents/{document}"),
        ("delete", f"/api/v1/documents/{document}"),
        ("post", f"/api/v1/documents/{document}/retry"),
        ("get", f"/api/v1/collections/{collection}"),
        ("patch", f"/api/v1/collections/{collection}"),
        ("delete", f"/api/v1/collections/{collection}"),
        ("get", f"/api/v1/documents?collection={collection}"),
        ("post", f"/api/v1/documents#{collection}"),
        ("post", f"/api/v1/search#{collection}"),
    ]


def ask(client: Client, method: str, path: str) -> Any:
    path, _, collection = path.partition("#")
    body = {"collection": collection, "text": "text", "query": "text", "name": "Mine now"} if method != "get" else None
    return client.generic(method.upper(), path, json.dumps(body or {}).encode(), content_type="application/json")


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
    assert len(post(client, "search", {"collection": "manuals", "query": "seals"}).json()["results"]) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"collection": "manuals"}, "query"),
        ({"collection": "manuals", "query": ""}, "query"),
        ({"collection": "manuals", "query": "a\0b"}, "query"),
        ({"collection": "manuals", "query": "x" * 16_001}, "query"),
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
