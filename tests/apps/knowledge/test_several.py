"""Several documents by one request: each file, and each file of a ZIP, is taken or refused by itself."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from chatbot import bundles
from tests.apps.knowledge.asking import client_of, refused
from tests.apps.knowledge.ingesting import ingested, live_texts, stored_files

pytestmark = pytest.mark.usefixtures("manuals")


@pytest.fixture
def client(acme: Tenant) -> Client:
    return client_of(acme)


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return out.getvalue()


def far_away(name: str) -> bytes:
    """An archive whose only file lies, it says, beyond what any file reaches."""
    made = zipped((name, b"Text."))
    entry, end = made.index(b"PK\1\2"), made.index(b"PK\5\6")
    of_entry, of_end = bytearray(made[entry:end]), bytearray(made[end:])
    zip64 = struct.pack("<HHQ", 1, 8, 2**63)
    struct.pack_into("<H", of_entry, 30, len(zip64))
    struct.pack_into("<I", of_entry, 42, 0xFFFFFFFF)
    struct.pack_into("<I", of_end, 12, len(of_entry) + len(zip64))
    return bytes(made[:entry] + of_entry + zip64 + of_end)


def send(client: Client, *files: tuple[str, bytes], key: str = "", **fields: str) -> Any:
    parts = [SimpleUploadedFile(name, content) for name, content in files]
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/api/v1/documents", {"collection": "manuals", "file": parts, **fields}, headers=headers)


def told(response: Any) -> list[tuple[str, bool, str | None]]:
    """Of each file its name, whether it was added, and the code of its refusal."""
    assert response.status_code == 202, response.content
    results = response.json()["results"]
    for result in results:
        assert (result["document"] is None) == (result["refusal"] is not None)
        assert result["refusal"] is None or result["refusal"]["message"].endswith(".")
    return [(each["file_name"], each["added"], (each["refusal"] or {}).get("code")) for each in results]


def test_each_file_becomes_a_document(acme: Tenant, client: Client) -> None:
    answer = send(client, ("a.md", b"Text of a."), ("b.txt", b"Text of b."), ("c.exe", b"MZ"), ("d.md", b"Text of a."))
    assert told(answer) == [
        ("a.md", True, None),
        ("b.txt", True, None),
        ("c.exe", False, "unsupported_type"),
        ("d.md", False, None),
    ]
    assert {ingested(acme, document).status for document in Document.objects.all()} == {"ready"}
    assert {document.file_name for document in Document.objects.all()} == {"a.md", "b.txt"}


def test_an_empty_file_is_refused_by_itself(client: Client) -> None:
    answer = send(client, ("a.md", b"Text of a."), ("b.md", b""))
    assert told(answer) == [("a.md", True, None), ("b.md", False, "invalid_request")]
    assert answer.json()["results"][1]["refusal"]["message"] == "The file is empty."


def test_a_file_that_lies_nowhere_is_damaged(client: Client) -> None:
    assert told(send(client, ("far.zip", far_away("a.md")))) == [("a.md", False, "unsupported_type")]


def test_a_zip_becomes_its_readable_files(acme: Tenant, client: Client) -> None:
    archive = zipped(
        ("guide.md", b"Text of the guide."),
        ("deep/er/prices.csv", b"name,price\nseal,3\n"),
        ("../../etc/passwd.txt", b"A name is no path."),
        ("__MACOSX/._guide.md", b"\0\1"),
        (".DS_Store", b"\0\1"),
        ("film.mp4", b"\0\0"),
        ("inner.zip", zipped(("x.md", b"Text."))),
        ("empty.txt", b""),
        ("fake.pdf", b"no pdf"),
    )
    assert told(send(client, ("all.ZIP", archive))) == [
        ("guide.md", True, None),
        ("deep/er/prices.csv", True, None),
        ("../../etc/passwd.txt", True, None),
        ("film.mp4", False, "unsupported_type"),
        ("inner.zip", False, "unsupported_type"),
        ("empty.txt", False, "invalid_request"),
        ("fake.pdf", False, "unsupported_type"),
    ]
    guide = ingested(acme, Document.objects.get(file_name="guide.md"))
    assert live_texts(guide) == ["Text of the guide."]
    assert Document.objects.get(file_name="passwd.txt").title == "passwd"
    assert len(stored_files()) == 3
    assert all(name.startswith("documents/") for name in stored_files())


def test_the_same_zip_again_adds_nothing(client: Client) -> None:
    archive = zipped(("a.md", b"Text of a."), ("b.md", b"Text of b."))
    first, second = send(client, ("x.zip", archive)).json(), send(client, ("y.zip", archive)).json()
    assert [each["document"]["id"] for each in first["results"]] == [e["document"]["id"] for e in second["results"]]
    assert Document.objects.count() == 2


def test_a_repeat_with_its_key_gets_the_first_answer_and_other_files_none(client: Client) -> None:
    files = [("a.md", b"Text of a."), ("b.md", b"Text of b.")]
    first, again = send(client, *files, key="once"), send(client, *files, key="once")
    assert told(first) == told(again) == [("a.md", True, None), ("b.md", True, None)]
    # The last file is the same: all of them count.
    assert send(client, ("other.md", b"Other."), files[1], key="once").status_code == 422


def test_one_title_for_several_is_refused(client: Client) -> None:
    refused(send(client, ("a.zip", zipped(("a.md", b"Text."))), title="Ours"), 400, "title")


def lying() -> bytes:
    """An archive whose file says that it has 10 bytes, and has 100,000."""
    made = bytearray(zipped(("a.md", b"x" * 100_000)))
    entry = made.rindex(b"a.md")
    made[entry - 22 : entry - 18] = (10).to_bytes(4, "little")
    return bytes(made)


def encrypted() -> bytes:
    made = bytearray(zipped(("a.md", b"Text.")))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        made[made.index(mark) + offset] |= 1
    return bytes(made)


@pytest.mark.parametrize(
    ("archive", "codes"),
    [
        (b"no archive", {"unsupported_type"}),
        (zipped(("a.md", b"Text of a."))[:60], {"unsupported_type"}),
        (zipped(), {"unsupported_type"}),
        (zipped(("a.md", b" " * 3000)), {"payload_too_large"}),
        (zipped(*((f"{n}.md", b" " * 2000) for n in range(5))), {"payload_too_large"}),
        (zipped(*((f"{n}.md", b"x") for n in range(bundles.MAX_MEMBERS + 1))), {"payload_too_large"}),
        (lying(), {"unsupported_type", "payload_too_large"}),
        (encrypted(), {"unsupported_type"}),
        (zipped(("a.md", b"Text."), method=zipfile.ZIP_LZMA), {"unsupported_type"}),
    ],
    ids=["text", "cut", "empty", "large", "larger", "many", "lying", "encrypted", "lzma"],
)
def test_a_hostile_archive_says_why(client: Client, settings: Any, archive: bytes, codes: set[str]) -> None:
    settings.PARLEY_MAX_UPLOAD_BYTES = 2048 if len(archive) < 2048 else 100_000
    if b"200.md" in archive:
        settings.PARLEY_MAX_UPLOAD_BYTES = 100_000
    (result,) = told(send(client, ("x.zip", archive)))
    assert (result[1], {result[2]} <= codes) == (False, True), result
    assert not stored_files()


def test_another_tenant_sees_none_of_them(client: Client, globex: Tenant) -> None:
    send(client, ("a.zip", zipped(("a.md", b"Text of a."))))
    assert client_of(globex).get("/api/v1/documents").json()["results"] == []


def test_a_collection_of_another_tenant_is_none(globex: Tenant, manuals: Collection) -> None:
    assert send(client_of(globex), ("a.zip", zipped(("a.md", b"Text.")))).status_code == 404
    assert not Document.objects.exists()
