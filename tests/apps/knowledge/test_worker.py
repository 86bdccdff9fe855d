"""A real Celery worker on the real broker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from django.conf import settings as django_settings
from redis import Redis

from apps.edge import broker, tracing
from apps.edge.queues import DOCUMENTS
from apps.knowledge import queue
from apps.knowledge.crawl import schedule
from apps.knowledge.ingest import add_document
from apps.knowledge.models import Collection, Document, SourceRun
from apps.tenants.models import Tenant
from local.home import free_port
from tests.apps.knowledge.crawling import page, site_source
from tests.apps.knowledge.ingesting import manual, until
from tests.fakes.otlp import Otlp, running_otlp, tracing_here
from tests.fakes.site import running_site

METRICS_PORT = free_port()


@pytest.fixture
def otlp() -> Iterator[Otlp]:
    with running_otlp() as server:
        yield server


@pytest.fixture
def worker(database: None, tmp_path: Path, otlp: Otlp) -> Iterator[Path]:
    """Its log."""
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "config.celery", "worker", "--concurrency=2", "--loglevel=INFO"]
    crawling = {"PARLEY_PRIVATE_SOURCE_HOSTS": "localhost", "PARLEY_CRAWL_DELAY_MS": "0"}
    counts = tmp_path / "counts"
    counts.mkdir()
    telling = {
        "PROMETHEUS_MULTIPROC_DIR": str(counts),
        "PARLEY_WORKER_METRICS_ADDRESS": f"127.0.0.1:{METRICS_PORT}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "PARLEY_TRACED_PERCENT": "100",
    }
    environment = {**os.environ, **crawling, **telling, "PARLEY_HOME": str(django_settings.MEDIA_ROOT.parent)}
    with (
        log.open("w") as out,
        subprocess.Popen([*command, "--without-gossip", "--without-mingle"], env=environment, stderr=out) as process,
    ):
        yield log
        process.terminate()


def test_a_worker_ingests_what_was_uploaded(
    acme: Tenant, manuals: Collection, worker: Path, otlp: Otlp, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [
        add_document(acme, manuals, name="manual.md", content=manual(3, version=f"v{n}"))[0].pk for n in range(7)
    ]
    until(lambda: Document.objects.filter(status="ready").count() == len(documents), seconds=60)
    # It says so after the commit.
    until(lambda: worker.read_text().count('"event": "document.ready"') == len(documents), seconds=10)
    assert '"tenant": "acme"' in worker.read_text()
    with urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics") as told:
        assert f'parley_documents_ingested_total{{outcome="ready"}} {len(documents)}.0' in told.read().decode()
    old, _ = add_document(acme, manuals, name="old.md", content=b"Sent by a release that knew one queue.")
    with Redis.from_url(django_settings.CELERY_BROKER_URL) as redis:
        redis.delete(DOCUMENTS)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.url)
    with tracing_here(), tracing.span("POST", "SERVER"):
        sent = tracing.headers()["traceparent"].split("-")[1]
        broker.send(queue.INGEST_TASK, str(acme.pk), str(old.pk), expires=60, queue="celery")
    until(lambda: Document.objects.filter(pk=old.pk, status="ready").exists(), seconds=60)
    # The worker goes on with the trace of whoever sent it.
    expected = {"POST", "send knowledge.ingest", "run knowledge.ingest", "SELECT"}
    until(lambda: expected <= {span.name for span in otlp.spans() if span.trace == sent}, seconds=30)


def test_a_worker_runs_a_source(acme: Tenant, manuals: Collection, worker: Path, settings: Any) -> None:
    settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["localhost"]
    with running_site() as site:
        site.serves("/", page("Home", *(f"/{n}" for n in range(3))))
        for n in range(3):
            site.serves(f"/{n}", page(f"Page {n}"))
        schedule.run_now(acme, site_source(acme, manuals, site))
        until(lambda: SourceRun.objects.filter(state="finished").exists(), seconds=60)
    assert SourceRun.objects.get().new == 4
    until(lambda: Document.objects.filter(status="ready").count() == 4, seconds=60)
