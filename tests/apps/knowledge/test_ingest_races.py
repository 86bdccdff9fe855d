"""Several hands on one document: workers, deletions and replacements at any moment."""

from __future__ import annotations

import datetime
import time

import pytest
from django.utils import timezone

from apps.knowledge import embedding, lease
from apps.knowledge.ingest import delete_document, ingest, replace_document, retry_document
from apps.knowledge.models import Chunk, Collection, Document, Embedding
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from chatbot.errors import InvalidRequest, NotFound
from tests.apps.knowledge.ingesting import (
    added,
    embedded,
    in_thread,
    ingested,
    let_lease_run_out,
    live_texts,
    manual,
    page,
    stored_files,
    until,
)
from tests.environment import Backends
from tests.fakes.inference import FakeInference, Reply

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
    embeddings.script(Reply(kind="embedding", held=True))
    document = added(acme, manuals, manual(3))
    with in_thread(lambda: ingest(acme.pk, document.pk)):
        until(lambda: bool(embeddings.requests))
        replace_document(acme, document, name="manual.md", content=manual(3, version="two"))
        embeddings.release()
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


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_lease_knows_no_clock_but_postgresqls(
    acme: Tenant, manuals: Collection, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """What a worker with a wrong clock holds ends when it should, and it takes nothing that another one holds."""
    now, wrong = timezone.now, datetime.timedelta(minutes=minutes)
    document = added(acme, manuals, manual(3))
    monkeypatch.setattr(timezone, "now", lambda: now() + wrong)
    with tenant_scope(acme):
        held = lease.claim(acme.pk, document.pk)
        assert held
        assert lease.claim(acme.pk, document.pk) is None
        lease.renew(held)
    document.refresh_from_db()
    assert document.lease_until
    assert abs(document.lease_until - now() - lease.LEASE) < datetime.timedelta(seconds=30)


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


def test_whoever_holds_the_row_for_long_does_not_end_an_attempt(
    acme: Tenant, manuals: Collection, embeddings: FakeInference, servers: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the work itself does while it writes thousands of passages in one transaction."""
    monkeypatch.setattr(lease, "RENEW_EVERY", 0.05)
    embeddings.script(Reply(kind="embedding", first_delay=3.0))  # more than the two seconds that a lock is awaited
    document = added(acme, manuals, manual(3))
    with in_thread(lambda: ingest(acme.pk, document.pk)):
        until(lambda: bool(embeddings.requests))
        with servers.superuser.transaction():
            servers.superuser.execute("SELECT FROM knowledge_document WHERE id = %s FOR UPDATE", [document.pk])
            time.sleep(2.5)
    document.refresh_from_db()
    assert document.status == "ready"  # at the first attempt: the next one is not due yet


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
    assert embedding.next_size(size, seconds) == following
