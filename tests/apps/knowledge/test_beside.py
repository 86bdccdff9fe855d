"""A worker that is at one step of a document for long takes up what other tenants have in line meanwhile."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from celery import signals

from apps.edge import ending
from apps.knowledge import lease, pipeline, queue, tasks
from apps.knowledge.collections import create_collection
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from chatbot.errors import ExtractionFailed
from config import celery
from tests.apps.knowledge.ingesting import added, in_thread, ingested, live_texts, manual, sheet, stopped, until
from tests.environment import Backends
from tests.factories import make_tenant
from tests.fakes.inference import FakeInference, Reply

PAGE = b"# Page\n\nClose the valve first."


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LOOKS_EVERY", 0.1)
    monkeypatch.setattr(queue, "PATIENCE", datetime.timedelta(seconds=0.1))


@pytest.fixture
def news(globex: Tenant) -> Collection:
    return create_collection(globex, name="News")


@contextmanager
def work_at(document: Document) -> Iterator[None]:
    """The only worker is at it."""
    with in_thread(lambda: tasks.ingest(str(document.tenant_id), str(document.pk))):
        yield


def status(document: Document) -> str:
    document.refresh_from_db()
    return str(document.status)


def test_a_page_does_not_wait_until_anothers_file_is_read(manuals: Collection, news: Collection) -> None:
    long = added(manuals.tenant, manuals, sheet(1), "parts.csv")
    with work_at(long), stopped():
        page = added(news.tenant, news, PAGE)
        until(lambda: status(page) == "ready")
        assert status(long) == "extracting"
    assert status(long) == "ready"
    assert live_texts(page)


def test_nor_while_two_files_are_read(manuals: Collection, news: Collection) -> None:
    third, fourth = (create_collection(make_tenant(name), name="Notes") for name in ("third", "fourth"))
    with work_at(added(manuals.tenant, manuals, sheet(1), "parts.csv")), stopped() as first:
        added(news.tenant, news, sheet(2), "parts.csv")
        with stopped(but=(first,)) as second:
            page = added(third.tenant, third, PAGE)
            until(lambda: status(page) == "ready")
            added(third.tenant, third, sheet(3), "parts.csv")
            with stopped(but=(first, second)):
                # Each has a process that reads: there are not more than three.
                waits = added(fourth.tenant, fourth, PAGE)
                until(lambda: in_line_since(waits) > 5 * pipeline.LOOKS_EVERY)
                assert status(waits) == "queued"
            until(lambda: status(waits) == "ready")
    assert set(Document.objects.values_list("status", flat=True)) == {"ready"}


def in_line_since(document: Document) -> float:
    """Seconds."""
    return (datetime.datetime.now(datetime.UTC) - document.created).total_seconds()


def test_nor_behind_an_endpoint_that_hangs(
    manuals: Collection, news: Collection, embeddings: FakeInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY", 0.2)
    embeddings.script(Reply(kind="embedding", when="Section", first_delay=3600.0))
    long = added(manuals.tenant, manuals, manual(4))
    with work_at(long):
        until(lambda: bool(embeddings.requests))
        page = added(news.tenant, news, PAGE)
        until(lambda: status(page) == "ready")
        assert status(long) == "embedding"
        long.delete()


def test_what_the_same_tenant_has_in_line_waits(manuals: Collection, news: Collection) -> None:
    """Where it is of the same line: there it has a worker."""
    with work_at(added(manuals.tenant, manuals, sheet(1), "parts.csv")), stopped():
        own = added(manuals.tenant, manuals, sheet(2), "more.csv")
        page = added(news.tenant, news, PAGE)
        until(lambda: status(page) == "ready")
        assert status(own) == "queued"


def test_a_file_that_cannot_be_read_takes_nobody_with_it(manuals: Collection, news: Collection) -> None:
    long = added(manuals.tenant, manuals, sheet(1), "parts.csv")
    with work_at(long), stopped():
        damaged = added(news.tenant, news, b"%PDF-1.7 and then nothing", "damaged.pdf")
        until(lambda: status(damaged) == "failed")
    assert (status(long), damaged.failure_code) == ("ready", ExtractionFailed.code)


def test_a_reader_that_the_kernel_kills_reads_again_later(manuals: Collection) -> None:
    """It does so for want of memory, and says nothing of the file."""
    long = added(manuals.tenant, manuals, sheet(1), "parts.csv")
    with work_at(long), stopped() as reader:
        os.kill(reader, signal.SIGKILL)
    assert (status(long), long.failure_code) == ("retrying", "interrupted")
    assert ingested(manuals.tenant, long).status == "ready"


def test_what_cannot_be_taken_up_fails_no_other(
    manuals: Collection, news: Collection, servers: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = queue.PATIENCE
    monkeypatch.setattr(queue, "PATIENCE", datetime.timedelta(days=1))
    long = added(manuals.tenant, manuals, sheet(1), "parts.csv")
    with work_at(long), stopped():
        page = added(news.tenant, news, PAGE)
        with servers.superuser.transaction():
            servers.superuser.execute("SELECT FROM knowledge_document WHERE id = %s FOR UPDATE", [page.pk])
            monkeypatch.setattr(queue, "PATIENCE", patience)
            until(lambda: waits_for_a_lock(servers))
            until(lambda: not waits_for_a_lock(servers))  # it gives up after two seconds
        until(lambda: status(page) == "ready")
        assert status(long) == "extracting"
    assert status(long) == "ready"


def waits_for_a_lock(servers: Backends) -> bool:
    return servers.superuser.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None


def test_a_worker_that_is_told_to_end_takes_up_nobody(
    manuals: Collection, news: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert celery.app  # which hears what Celery tells
    monkeypatch.setattr(ending, "_told", bytearray(1))
    long = added(manuals.tenant, manuals, sheet(1), "parts.csv")
    with work_at(long), stopped():
        signals.worker_shutting_down.send(sender="worker", sig="SIGTERM", how="Warm", exitcode=0)
        page = added(news.tenant, news, PAGE)
        until(lambda: in_line_since(page) > 5 * pipeline.LOOKS_EVERY)
        assert status(page) == "queued"
    assert (status(long), status(page)) == ("ready", "queued")
