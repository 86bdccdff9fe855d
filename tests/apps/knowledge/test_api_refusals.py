"""What the API refuses, and what it hides from other tenants."""

from __future__ import annotations

import io
import json
import uuid
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apps.knowledge.collections import create_collection
from apps.knowledge.ingest import ingest
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from tests.apps.knowledge.asking import client_of, post, refused, stored_files, upload


@pytest.fixture
def client(acme: Tenant) -> Client:
    return client_of(acme)


@pytest.fixture
def outsider(globex: Tenant) -> Client:
    return client_of(globex)


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
