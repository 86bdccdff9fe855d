"""A document's way from its bytes to passages, and what is refused at its beginning."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage
from django.db import connections

from apps.knowledge.ingest import add_document, delete_document
from apps.knowledge.models import Chunk, Collection, Document, Embedding
from apps.tenants.models import Tenant
from chatbot.errors import InvalidRequest, PayloadTooLarge, StorageFull, UnsupportedType
from tests.apps.knowledge.ingesting import (
    added,
    embedded,
    ingested,
    live_texts,
    manual,
    pdf,
    stored_files,
)
from tests.fakes.inference import FakeInference

# --- The way there ----------------------------------------------------------------------------------------------------


def test_a_document_becomes_passages_with_vectors(acme: Tenant, manuals: Collection) -> None:
    document = added(acme, manuals, manual(5))
    assert document.status == "queued"
    ingested(acme, document)
    passages = list(Chunk.objects.for_tenant(acme).filter(document=document))
    assert document.status == "ready"
    assert document.ready_at
    assert document.passages == len(passages) == document.progress_done == document.progress_total >= 5
    assert all(passage.live for passage in passages)
    assert Embedding.objects.for_tenant(acme).filter(chunk__document=document).count() == len(passages)
    assert (document.lease_until, document.lease_token, document.failure_code) == (None, None, "")


def test_a_pdf_keeps_its_pages(acme: Tenant, manuals: Collection) -> None:
    document = added(acme, manuals, pdf("Replace the seal with care.", "Rinse the impeller weekly."), "pump.pdf")
    ingested(acme, document)
    assert (document.status, document.media_type, document.pages) == ("ready", "application/pdf", 2)
    pages = {passage.page for passage in Chunk.objects.for_tenant(acme).filter(document=document)}
    assert pages <= {1, 2}
    assert 1 in pages
    text = " ".join(live_texts(document))
    assert "Replace the seal" in text
    assert "Rinse the impeller" in text


def test_the_title_is_given_else_found_else_the_files_name(acme: Tenant, manuals: Collection) -> None:
    given, _ = add_document(acme, manuals, name="a.md", content=b"# Found\n\nText a.", title="Given")
    found = added(acme, manuals, b"# Found\n\nText b.", "b.md")
    named = added(acme, manuals, b"Text c.", "Spare parts.txt")
    assert [ingested(acme, document).title for document in (given, found, named)] == ["Given", "Found", "Spare parts"]


@pytest.mark.parametrize(
    "content",
    [
        f"# {'Heading ' * 200}\n\nText.",
        "base64" * 50_000,
        "odd \u202e\u200b \U0001f600 \ufffe",
        "```\n" + "x = [1]\n" * 5_000 + "```",
        "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 2_000,
        "# \n## \n### \ntext",
    ],
    ids=["long heading", "one word", "odd characters", "code", "table", "empty headings"],
)
def test_any_text_becomes_passages(acme: Tenant, manuals: Collection, content: str) -> None:
    document, _ = add_document(acme, manuals, name="", content=content.encode())
    assert (ingested(acme, document).status, document.failure_message) == ("ready", "")
    assert live_texts(document)


def test_rerunning_a_finished_document_is_harmless(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    document = ingested(acme, added(acme, manuals, manual(3)))
    before = document.ready_at, live_texts(document), len(embedded(embeddings))
    ingested(acme, document)
    assert (document.ready_at, live_texts(document), len(embedded(embeddings))) == before


# --- The same bytes ---------------------------------------------------------------------------------------------------


def test_the_same_bytes_in_a_collection_are_one_document(acme: Tenant, manuals: Collection) -> None:
    first = added(acme, manuals, manual(2))
    second, new = add_document(acme, manuals, name="other name.md", content=manual(2))
    assert (second.pk, new) == (first.pk, False)
    assert len(stored_files()) == 1


def test_uploading_a_failed_documents_bytes_tries_again(acme: Tenant, manuals: Collection) -> None:
    broken = ingested(acme, added(acme, manuals, b"%PDF-1.7\nnot really", "broken.pdf"))
    assert broken.status == "failed"
    again, new = add_document(acme, manuals, name="broken.pdf", content=b"%PDF-1.7\nnot really")
    assert (again.pk, new, again.status, again.attempts) == (broken.pk, False, "queued", 0)


def test_many_uploads_of_the_same_bytes_at_once_are_one_document(acme: Tenant, manuals: Collection) -> None:
    found = []

    def upload() -> None:
        try:
            found.append(add_document(acme, manuals, name="manual.md", content=manual(2)))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({document.pk for document, _ in found}) == 1
    assert [new for _, new in found].count(True) == 1
    assert len(stored_files()) == 1


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("photo.png", b"\x89PNG", UnsupportedType),
        ("no suffix", b"text", UnsupportedType),
        ("manual.pdf", b"PK\x03\x04 a zip", UnsupportedType),
        ("manual.txt", b"\x7fELF\x00\x00\x01", UnsupportedType),
        ("empty.md", b"", InvalidRequest),
    ],
)
def test_what_cannot_be_read_is_refused_and_not_stored(
    acme: Tenant, manuals: Collection, name: str, content: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        add_document(acme, manuals, name=name, content=content)
    assert stored_files() == []
    assert not Document.objects.for_tenant(acme).exists()


def test_too_much_is_refused_while_it_arrives(acme: Tenant, manuals: Collection, settings: Any) -> None:
    settings.PARLEY_MAX_UPLOAD_BYTES = 100_000

    source = io.BytesIO(b"x" * 10_000_000)
    with pytest.raises(PayloadTooLarge):
        add_document(acme, manuals, name="big.txt", content=File(source))
    assert source.tell() < 200_000
    assert stored_files() == []
    exact, _ = add_document(acme, manuals, name="exact.txt", content=b"x " * 50_000)
    assert exact.size == 100_000


@pytest.mark.parametrize("title", ["nul\0", "x" * 301])
def test_titles_that_no_column_holds_are_refused(acme: Tenant, manuals: Collection, title: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        add_document(acme, manuals, name="a.md", content=b"text", title=title)
    assert "title" in (raised.value.fields or {})


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("/etc/cron.d/evil.md", "evil.md"),
        ("..\\..\\boot.md", "boot.md"),
        ("nul\0name.md", "nulname.md"),
        ("line\nbreak.md", "linebreak.md"),
        (f"{'long' * 100}.md", f"{('long' * 100)[:252]}.md"),
    ],
)
def test_odd_names_never_reach_the_file_system(acme: Tenant, manuals: Collection, name: str, shown: str) -> None:
    document = added(acme, manuals, b"Some text.", name)
    assert document.file_name == shown
    assert stored_files() == [document.stored]
    assert document.stored.startswith(f"documents/{acme.pk}/")
    assert "text" in live_texts(ingested(acme, document))[0]


def test_a_full_disk_is_said_and_leaves_no_orphan(acme: Tenant, manuals: Collection, settings: Any) -> None:
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": f"{__name__}.FullDisk"}}
    with pytest.raises(StorageFull):
        add_document(acme, manuals, name="a.md", content=b"Some text.")
    assert stored_files() == []
    assert not Document.objects.for_tenant(acme).exists()


class FullDisk(FileSystemStorage):
    """Writes half of what it is given, then has no room, as a disk does."""

    def _save(self, name: str, content: File[bytes]) -> str:
        super()._save(name, ContentFile(content.read(content.size // 2)))  # type: ignore[misc]
        raise OSError(28, "No space left on device")


class StuckDisk(FileSystemStorage):
    def delete(self, name: str) -> None:
        raise OSError(30, "Read-only file system", name)


def test_a_document_is_deleted_even_where_its_bytes_cannot_be(
    acme: Tenant, manuals: Collection, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    document = added(acme, manuals, manual(1))
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": f"{__name__}.StuckDisk"}}
    delete_document(acme, document)
    assert not Document.objects.for_tenant(acme).filter(pk=document.pk).exists()
    assert "Read-only file system" in caplog.text
