"""A document's way from its bytes to passages."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connections
from django.utils import timezone
from reportlab.pdfgen.canvas import Canvas

from apps.knowledge import lease, pipeline
from apps.knowledge.ingest import add_document, delete_document, ingest, replace_document, retry_document
from apps.knowledge.models import Chunk, Collection, Document, Embedding
from apps.tenants.models import Tenant
from chatbot.errors import InvalidRequest, NotFound, PayloadTooLarge, StorageFull, UnsupportedType
from tests.fakes.inference import FakeInference, Reply

WORDS = ("valve", "pump", "seal", "rotor", "shaft", "motor", "filter", "gauge", "hose", "clamp", "bolt", "washer")


def page(section: int, *, version: str = "one") -> str:
    """A section long enough to be a passage of its own."""
    body = " ".join(f"{word} {version} {section}" for word in WORDS * 5)
    return f"# Section {section}\n\n{body}.\n\n"


def manual(sections: int, *, version: str = "one") -> bytes:
    return "".join(page(n, version=version) for n in range(sections)).encode()


def pdf(*texts: str) -> bytes:
    out = io.BytesIO()
    canvas: Any = Canvas(out)  # type: ignore[no-untyped-call]
    for text in texts:
        for place, line in enumerate(text.split("\n")):
            canvas.drawString(72, 760 - 16 * place, line)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def added(tenant: Tenant, collection: Collection, content: bytes, name: str = "manual.md") -> Document:
    document, new = add_document(tenant, collection, name=name, content=content)
    assert new
    return document


def ingested(tenant: Tenant, document: Document) -> Document:
    ingest(tenant.pk, document.pk)
    document.refresh_from_db()
    return document


def live_texts(document: Document) -> list[str]:
    rows = Chunk.objects.for_tenant(document.tenant_id).filter(document=document, live=True)
    return list(rows.order_by("position").values_list("text", flat=True))


def embedded(fake: FakeInference) -> list[str]:
    """Every passage that the embedding server was sent, in order."""
    return [
        text
        for request in fake.requests
        if request.payload.get("input_type") == "passage"
        for text in request.payload["input"]
    ]


def stored_files() -> list[str]:
    root = django_settings.MEDIA_ROOT
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) if root.exists() else []


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)


def let_lease_run_out(document: Document) -> None:
    Document.objects.filter(pk=document.pk).update(lease_until=timezone.now())


@contextmanager
def in_thread(work: Callable[[], Any]) -> Iterator[threading.Thread]:
    """Run `work` beside the test; what it raises fails the test when it is joined."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the test's own thread
            raised.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    yield thread
    thread.join(30)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


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


# --- What goes wrong on the way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [("broken.pdf", b"%PDF-1.7\nthis is no PDF"), ("cut.pdf", pdf("A page")[:200]), ("blank.md", b" \n \n")],
)
def test_an_unreadable_file_fails_with_a_reason_and_the_rest_goes_on(
    acme: Tenant, manuals: Collection, name: str, content: bytes
) -> None:
    broken = ingested(acme, added(acme, manuals, content, name))
    sound = ingested(acme, added(acme, manuals, manual(1)))
    assert (broken.status, broken.failure_code) == ("failed", "parser")
    assert broken.failure_message.endswith(".")
    assert broken.attempts == 1
    assert sound.status == "ready"


def test_a_pdf_without_text_says_so(acme: Tenant, manuals: Collection) -> None:
    document = ingested(acme, added(acme, manuals, pdf("", ""), "scan.pdf"))
    assert document.status == "failed"
    assert document.failure_code in {"empty", "parser"}
    assert "text" in document.failure_message


def test_lost_bytes_fail_with_a_reason(acme: Tenant, manuals: Collection) -> None:
    document = added(acme, manuals, manual(1))
    default_storage.delete(document.stored)
    assert (ingested(acme, document).status, document.failure_code) == ("failed", "bytes_missing")


def test_a_failing_model_server_is_tried_again_and_then_given_up(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    embeddings.script(Reply(kind="embedding", status=500, always=True))
    document = added(acme, manuals, manual(2))
    delays = []
    for attempt in range(1, pipeline.MAX_ATTEMPTS):
        ingested(acme, document)
        assert (document.status, document.attempts, document.failure_code) == ("retrying", attempt, "model_failed")
        delays.append((document.next_attempt_at - timezone.now()).total_seconds())
    assert delays[0] < 20
    assert delays == sorted(delays) or max(delays) > 400
    assert ingested(acme, document).status == "failed"
    assert document.failure_message
    assert live_texts(document) == []


def test_a_failed_document_goes_on_where_it_stopped(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    embeddings.script(Reply(kind="embedding"), Reply(kind="embedding", status=503))
    document = ingested(acme, added(acme, manuals, manual(20)))
    assert (document.status, document.progress_done) == ("retrying", pipeline.FIRST_BATCH)
    retry_document(acme, document)
    assert (document.status, document.failure_code) == ("queued", "")
    assert ingested(acme, document).status == "ready"
    sent = embedded(embeddings)
    first, refused = sent[: pipeline.FIRST_BATCH], set(sent[pipeline.FIRST_BATCH : 3 * pipeline.FIRST_BATCH])
    again = sent[3 * pipeline.FIRST_BATCH :]
    assert not set(first) & set(again)
    assert refused <= set(again)
    assert len(first) + len(again) == document.passages


def test_a_wrong_dimension_mixes_no_index(acme: Tenant, manuals: Collection, embeddings: FakeInference) -> None:
    embeddings.script(Reply(kind="embedding", dimension=768))
    document = ingested(acme, added(acme, manuals, manual(2)))
    assert (document.status, document.failure_code) == ("retrying", "model_failed")
    assert not Embedding.objects.for_tenant(acme).exists()


def test_another_model_at_the_endpoint_mixes_no_index(
    acme: Tenant, manuals: Collection, embeddings: FakeInference, endpoint: Any
) -> None:
    endpoint.model = "another"
    endpoint.save()
    document = ingested(acme, added(acme, manuals, manual(2)))
    assert (document.status, document.failure_code) == ("retrying", "model_failed")
    assert "another" in document.failure_message
    assert embedded(embeddings) == []


def test_a_document_that_kills_its_workers_is_given_up(acme: Tenant, manuals: Collection) -> None:
    document = added(acme, manuals, manual(1))
    Document.objects.filter(pk=document.pk).update(attempts=pipeline.MAX_ATTEMPTS)
    assert (ingested(acme, document).status, document.failure_code) == ("failed", "interrupted")


def test_a_killed_worker_is_resumed_from_its_checkpoint(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    embeddings.script(Reply(kind="embedding"), Reply(kind="embedding", hang_after=0))
    document = added(acme, manuals, manual(20))
    command = "import django, sys; django.setup(); from apps.knowledge.ingest import ingest; ingest(*sys.argv[1:])"
    arguments = [sys.executable, "-c", command, str(acme.pk), str(document.pk)]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "PYTHONWARNINGS": "ignore"}
    environment["PARLEY_HOME"] = str(django_settings.MEDIA_ROOT.parent)
    with subprocess.Popen(arguments, env=environment) as worker:
        until(lambda: len(embeddings.requests) == 2)
        worker.kill()
    document.refresh_from_db()
    assert (document.status, document.progress_done) == ("embedding", pipeline.FIRST_BATCH)
    assert live_texts(document) == []  # nothing is half visible

    assert ingested(acme, document).status == "embedding"  # the dead worker's lease still holds
    let_lease_run_out(document)
    assert ingested(acme, document).status == "ready"
    first = embedded(embeddings)[: pipeline.FIRST_BATCH]
    assert not set(first) & set(embedded(embeddings)[pipeline.FIRST_BATCH :])
    assert len(live_texts(document)) == document.passages >= 20


# --- Several at once --------------------------------------------------------------------------------------------------


def test_of_two_workers_one_works(acme: Tenant, manuals: Collection, embeddings: FakeInference) -> None:
    for round_ in range(5):
        document = added(acme, manuals, manual(6, version=f"round {round_}"))
        before = len(embedded(embeddings))
        with in_thread(lambda pk=document.pk: ingest(acme.pk, pk)):  # type: ignore[misc]
            ingest(acme.pk, document.pk)
        document.refresh_from_db()
        assert document.status == "ready"
        assert len(embedded(embeddings)) - before == document.passages


def test_deleted_while_ingesting_it_stays_gone(acme: Tenant, manuals: Collection, embeddings: FakeInference) -> None:
    embeddings.script(Reply(kind="embedding", first_delay=0.5, always=True))
    document = added(acme, manuals, manual(3))
    with in_thread(lambda: ingest(acme.pk, document.pk)):
        until(lambda: bool(embeddings.requests))
        delete_document(acme, document)
    assert not Document.objects.for_tenant(acme).exists()
    assert not Chunk.objects.for_tenant(acme).exists()
    assert not Embedding.objects.for_tenant(acme).exists()
    assert stored_files() == []
    ingest(acme.pk, document.pk)
    assert not Chunk.objects.for_tenant(acme).exists()


def test_replaced_while_ingesting_the_newer_bytes_win(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    embeddings.script(Reply(kind="embedding", first_delay=0.5))
    document = added(acme, manuals, manual(3))
    with in_thread(lambda: ingest(acme.pk, document.pk)):
        until(lambda: bool(embeddings.requests))
        replace_document(acme, document, name="manual.md", content=manual(3, version="two"))
    document.refresh_from_db()
    assert (document.status, live_texts(document)) == ("queued", [])
    ingested(acme, document)
    assert document.status == "ready"
    assert all("valve two" in text for text in live_texts(document))
    assert stored_files() == [document.stored]


def test_replacing_at_any_moment_ends_with_the_newest_bytes(acme: Tenant, manuals: Collection) -> None:
    document = ingested(acme, added(acme, manuals, manual(4, version="v0")))
    for round_ in range(1, 13):
        first, second = (manual(4, version=f"v{round_}{half}") for half in "ab")
        replace_document(acme, document, name="manual.md", content=first)
        with in_thread(lambda: ingest(acme.pk, document.pk)):
            time.sleep(0.008 * round_)
            document.refresh_from_db()
            replace_document(acme, document, name="manual.md", content=second)
        ingested(acme, document)
        texts = live_texts(document)
        assert document.status == "ready"
        assert len(texts) == document.passages
        assert all(f"valve v{round_}b" in text for text in texts)
        assert Chunk.objects.for_tenant(acme).filter(live=False).count() == 0
        assert stored_files() == [document.stored]


def test_deleting_at_any_moment_leaves_nothing(acme: Tenant, manuals: Collection) -> None:
    for round_ in range(12):
        document = added(acme, manuals, manual(4, version=f"v{round_}"))
        with in_thread(lambda pk=document.pk: ingest(acme.pk, pk)):  # type: ignore[misc]
            time.sleep(0.008 * round_)
            delete_document(acme, document)
        assert not Document.objects.for_tenant(acme).exists()
        assert not Chunk.objects.for_tenant(acme).exists()
        assert not Embedding.objects.for_tenant(acme).exists()
        assert stored_files() == []


def test_a_worker_that_lost_its_lease_stops_at_once(
    acme: Tenant, manuals: Collection, embeddings: FakeInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY", 0.05)
    embeddings.script(Reply(kind="embedding", hang_after=0))
    document = added(acme, manuals, manual(3))
    with in_thread(lambda: ingest(acme.pk, document.pk)):
        until(lambda: bool(embeddings.requests))
        let_lease_run_out(document)
        until(Document.objects.filter(lease_until__gt=timezone.now()).exists)  # it holds on to it
        replace_document(acme, document, name="manual.md", content=manual(1, version="two"))
    assert embeddings.requests[0].disconnected_at
    assert ingested(acme, document).status == "ready"


# --- Other bytes for a document ---------------------------------------------------------------------------------------


def test_unchanged_passages_are_not_embedded_again(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    document = ingested(acme, added(acme, manuals, manual(10)))
    before = len(embedded(embeddings))
    changed = manual(10).replace(page(4).encode(), page(4, version="changed").encode())
    document = ingested(acme, replace_document(acme, document, name="manual.md", content=changed))
    assert document.status == "ready"
    new = embedded(embeddings)[before:]
    assert 1 <= len(new) < document.passages
    assert all("changed" in text for text in new)
    assert Embedding.objects.for_tenant(acme).count() == document.passages
    assert (document.progress_done, document.progress_total) == (document.passages, document.passages)


def test_old_passages_are_found_until_the_new_ones_are_ready(acme: Tenant, manuals: Collection) -> None:
    document = ingested(acme, added(acme, manuals, manual(2)))
    old = live_texts(document)
    document = replace_document(acme, document, name="manual.pdf", content=b"%PDF-1.7\nbroken")
    assert (document.status, live_texts(document)) == ("queued", old)
    assert (ingested(acme, document).status, live_texts(document)) == ("failed", old)


def test_replacing_by_the_same_bytes_changes_nothing(acme: Tenant, manuals: Collection) -> None:
    document = ingested(acme, added(acme, manuals, manual(2)))
    assert replace_document(acme, document, name="manual.md", content=manual(2)).status == "ready"
    assert stored_files() == [document.stored]


def test_replacing_by_another_documents_bytes_is_refused(acme: Tenant, manuals: Collection) -> None:
    other = added(acme, manuals, manual(3))
    document = added(acme, manuals, manual(2))
    with pytest.raises(InvalidRequest) as raised:
        replace_document(acme, document, name="manual.md", content=manual(3))
    assert "file" in (raised.value.fields or {})
    assert stored_files() == sorted([document.stored, other.stored])


def test_a_deleted_document_cannot_be_replaced(acme: Tenant, manuals: Collection) -> None:
    document = added(acme, manuals, manual(2))
    delete_document(acme, document)
    with pytest.raises(NotFound):
        replace_document(acme, document, name="manual.md", content=manual(3))
    assert stored_files() == []


def test_another_tenants_document_is_not_there(acme: Tenant, globex: Tenant, manuals: Collection) -> None:
    document = ingested(acme, added(acme, manuals, manual(2)))
    ingest(globex.pk, document.pk)
    delete_document(globex, document)
    with pytest.raises(NotFound):
        retry_document(globex, document)
    with pytest.raises(NotFound):
        replace_document(globex, document, name="manual.md", content=manual(3))
    assert ingested(acme, document).status == "ready"
    assert live_texts(document)


@pytest.mark.parametrize(
    ("size", "seconds", "following"),
    [(8, 0.1, 16), (128, 0.1, 128), (8, 0.5, 8), (8, 3.0, 4), (1, 60.0, 1)],
)
def test_batches_grow_while_they_are_quick_and_shrink_when_slow(size: int, seconds: float, following: int) -> None:
    assert pipeline.next_size(size, seconds) == following
