"""`manage.py ingest` and `manage.py search`, as an operator uses them."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from apps.knowledge.ingest import ingest
from apps.knowledge.management.commands import ingest as command
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "guide.md").write_text("# Guide\n\nReplace the rubber seal.")
    (folder / "deep" / "faq.txt").write_text("Rinse the impeller.")
    (folder / "deep" / "film.mp4").write_bytes(b"\x89PNG")
    (folder / ".git" / "notes.md").write_text("Hidden.")
    return folder


@pytest.fixture
def worker(database: None) -> Iterator[Callable[[], None]]:
    """Call it to have a worker ingest whatever is unfinished, beside the test, until the test ends."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.02):
            for document in Document.objects.unfinished():
                ingest(document.tenant_id, document.pk)
        connections.close_all()

    thread = threading.Thread(target=work)
    yield thread.start
    stop.set()
    if thread.ident:
        thread.join()


def run(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, "--tenant", "acme", "--collection", "manuals", stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_a_directory_is_ingested_into_a_new_collection(acme: Tenant, folder: Path, worker: Callable[[], None]) -> None:
    worker()
    out, _ = run("ingest", str(folder))
    assert "Guide: ready, 1 passages" in out
    assert {document.file_name for document in Document.objects.filter(status="ready")} == {"guide.md", "faq.txt"}
    assert Collection.objects.get().name == "Manuals"
    again, _ = run("ingest", str(folder))
    assert "known already (ready)" in again
    assert Document.objects.count() == 2
    found, _ = run("search", "Which seal is replaced?")
    assert found.startswith("[1] Guide")
    assert "Replace the rubber seal." in found


def test_without_waiting_the_documents_are_queued(acme: Tenant, folder: Path) -> None:
    out, _ = run("ingest", str(folder / "guide.md"), "--no-wait")
    assert out == f"{folder / 'guide.md'}: queued\n"
    assert Document.objects.get().status == "queued"


def test_what_cannot_be_ingested_is_told_and_fails_the_command(
    acme: Tenant, folder: Path, worker: Callable[[], None]
) -> None:
    worker()
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    err = io.StringIO()
    with pytest.raises(CommandError, match="2 of 4 documents"):
        call_command(
            "ingest",
            str(folder),
            str(folder / "deep" / "film.mp4"),
            "--tenant=acme",
            "--collection=manuals",
            stdout=io.StringIO(),
            stderr=err,
        )
    assert "film.mp4: Files of this kind cannot be read" in err.getvalue()
    assert "broken: failed." in err.getvalue()
    assert Document.objects.filter(status="ready").count() == 2


def test_a_missing_worker_is_suspected(
    acme: Tenant, folder: Path, monkeypatch: pytest.MonkeyPatch, worker: Callable[[], None]
) -> None:
    monkeypatch.setattr(command, "IDLE", 0.6)
    threading.Timer(1.5, worker).start()
    _, err = run("ingest", str(folder / "guide.md"))
    assert "Is a worker running?" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "/nowhere/at/all", "--tenant=acme", "--collection=x"], "There is no /nowhere/at/all"),
        (["ingest", ".", "--tenant=nobody", "--collection=x"], "no tenant 'nobody'"),
        (["search", "x", "--tenant=nobody", "--collection=x"], "no tenant 'nobody'"),
        (["search", "x", "--tenant=acme", "--collection=none"], "no collection 'none'"),
        (["ingest", "README.md", "--tenant=acme", "--collection=Not a slug"], "lower-case letters"),
    ],
)
def test_mistakes_are_told_in_a_sentence(acme: Tenant, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command(*arguments)


def test_a_search_without_a_hit_says_so(acme: Tenant, manuals: Collection) -> None:
    assert run("search", "anything") == ("Nothing found.\n", "")


def test_an_address_is_added_beside_files(acme: Tenant, folder: Path) -> None:
    out, _ = run("ingest", str(folder / "guide.md"), "https://example.org/guide", "--no-wait")
    assert out.splitlines() == [f"{folder / 'guide.md'}: queued", "https://example.org/guide: queued"]
    assert Document.objects.get(source_url="https://example.org/guide").to_fetch


def test_an_inner_address_is_refused_and_fails_the_command(acme: Tenant) -> None:
    with pytest.raises(CommandError, match="1 of 1 documents"):
        run("ingest", "http://169.254.169.254/", "--no-wait")
