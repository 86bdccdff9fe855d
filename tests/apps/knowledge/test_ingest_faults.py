"""What goes wrong on a document's way, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.files.storage import default_storage
from django.utils import timezone

from apps.knowledge import embedding, pipeline
from apps.knowledge.ingest import retry_document
from apps.knowledge.models import Collection, Document, Embedding
from apps.tenants.models import Tenant
from chatbot.inference.breaker import IN_A_ROW
from tests.apps.knowledge.ingesting import (
    added,
    embedded,
    ingested,
    let_lease_run_out,
    live_texts,
    manual,
    pdf,
    until,
)
from tests.fakes.inference import FakeInference, Reply


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
        assert (document.status, document.attempts) == ("retrying", attempt)
        # It fails until it has failed so often that it is no longer asked.
        assert document.failure_code == ("model_failed" if attempt <= IN_A_ROW else "model_unavailable")
        delays.append((document.next_attempt_at - timezone.now()).total_seconds())
    assert delays[0] < 20
    assert delays == sorted(delays) or max(delays) > 400
    assert ingested(acme, document).status == "failed"
    assert document.failure_message
    assert live_texts(document) == []


def test_a_failed_document_goes_on_where_it_stopped(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    embeddings.script(Reply(kind="embedding"), Reply(kind="embedding", status=500, always=True))
    document = ingested(acme, added(acme, manuals, manual(20)))
    assert (document.status, document.progress_done) == ("retrying", embedding.FIRST_BATCH)
    sent = embedded(embeddings)
    first, refused = sent[: embedding.FIRST_BATCH], sent[embedding.FIRST_BATCH :]
    embeddings.recover()
    embeddings.requests.clear()
    retry_document(acme, document)
    assert (document.status, document.failure_code) == ("queued", "")
    assert ingested(acme, document).status == "ready"
    again = embedded(embeddings)
    assert not set(first) & set(again)
    assert set(refused) <= set(again)
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
    assert (document.status, document.progress_done) == ("embedding", embedding.FIRST_BATCH)
    assert live_texts(document) == []  # nothing is half visible

    assert ingested(acme, document).status == "embedding"  # the dead worker's lease still holds
    let_lease_run_out(document)
    assert ingested(acme, document).status == "ready"
    first = embedded(embeddings)[: embedding.FIRST_BATCH]
    assert not set(first) & set(embedded(embeddings)[embedding.FIRST_BATCH :])
    assert len(live_texts(document)) == document.passages >= 20
