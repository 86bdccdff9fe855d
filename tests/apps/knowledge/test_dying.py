"""A worker dies at any point of a document's way: the document is found within two minutes, and goes on from there."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import redis as redis_client
from django.conf import settings as django_settings
from django.db.models import Sum
from django.utils import timezone

from apps.edge.queues import DOCUMENTS
from apps.knowledge import tasks
from apps.knowledge.models import Chunk, Collection, Document, Embedding
from apps.knowledge.sources import add_source
from apps.usage.models import UsageRecord
from chatbot.tokens import estimate
from tests.apps.knowledge.ingesting import added, embedded, manual
from tests.apps.knowledge.test_turns import broker, take
from tests.environment import ROOT
from tests.fakes.inference import FakeInference
from tests.fakes.site import running_site

__all__ = ["broker"]

PROMISED = 120.0  # seconds
DEATHS = 14  # more than units of work that a document of two batches takes


def die_at_each(collection: Collection, documents: list[Document]) -> None:
    """The nth document's worker dies before its nth unit of work."""
    names = [str(document.pk) for document in documents]
    subprocess.run(
        [sys.executable, "-m", "tests.apps.knowledge.dying", str(collection.tenant_id), *names],
        cwd=ROOT,
        check=True,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONWARNINGS": "ignore",
            "PARLEY_HOME": str(django_settings.MEDIA_ROOT.parent),
            "PARLEY_PRIVATE_SOURCE_HOSTS": "localhost",
        },
    )


def found_in(document: Document) -> float:
    """After how many seconds the beat has found it and sent it again."""
    due = max(document.next_attempt_at, document.lease_until or document.next_attempt_at)
    schedule: Any = django_settings.CELERY_BEAT_SCHEDULE["resend-documents"]["schedule"]
    return (due - timezone.now()).total_seconds() + float(schedule)


def go_on(broker: redis_client.Redis) -> None:
    """What the beat and a worker do, once the leases of the dead are over."""
    broker.delete(DOCUMENTS)
    while Document.objects.unfinished().exists():
        Document.objects.unfinished().update(next_attempt_at=timezone.now(), lease_until=None)
        tasks.resend_documents()
        assert broker.llen(DOCUMENTS), "nobody finds them"
        while broker.llen(DOCUMENTS):
            take(broker)


def is_whole(document: Document) -> None:
    assert document.status == "ready", (document.status, document.failure_message)
    chunks = Chunk.objects.for_tenant(document.tenant_id).filter(document=document)
    vectors = Embedding.objects.for_tenant(document.tenant_id).filter(chunk__document=document)
    assert chunks.filter(live=True).count() == chunks.count() == document.passages > 0
    assert vectors.filter(live=True).count() == vectors.count() == document.passages


def test_wherever_it_dies_it_is_found_and_goes_on(
    manuals: Collection, broker: redis_client.Redis, embeddings: FakeInference
) -> None:
    documents = [added(manuals.tenant, manuals, manual(12, version=f"v{n}")) for n in range(DEATHS)]
    die_at_each(manuals, documents)
    seen = set()
    for document in documents:
        document.refresh_from_db()
        seen.add(document.status)
        if document.status != "ready":
            assert found_in(document) < PROMISED
            assert not Chunk.objects.filter(document=document, live=True).exists(), "half of it is visible"
    assert seen == {"queued", "extracting", "chunking", "embedding", "ready"}, "it died at none of some stage"
    kept = {document.pk: document.progress_done for document in documents}
    first = embedded(embeddings)
    embeddings.requests.clear()
    go_on(broker)
    again = embedded(embeddings)
    for number, document in enumerate(documents):
        document.refresh_from_db()
        is_whole(document)
        mine = [text for text in again if f"v{number} " in text]
        assert len(mine) == document.passages - (kept[document.pk] if mine else document.passages)
        bills = UsageRecord.objects.filter(document_id=document.pk, bill="once")
        assert bills.filter(pages__gt=0).count() == 1
        texts = {text for text in [*first, *again] if f"v{number} " in text}
        assert bills.aggregate(all=Sum("prompt_tokens"))["all"] == sum(map(estimate, texts))
    assert not UsageRecord.objects.filter(state="reserved").exists()


def test_wherever_it_dies_while_it_is_fetched(manuals: Collection, broker: redis_client.Redis, settings: Any) -> None:
    settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["localhost"]
    with running_site() as site:
        documents = []
        for number in range(8):
            site.serves(f"/{number}", f"<html><body><p>Page number {number}.</p></body></html>")
            document, _ = add_source(manuals.tenant, manuals, url=f"{site.url}/{number}")
            documents.append(document)
        die_at_each(manuals, documents)
        for document in documents:
            document.refresh_from_db()
            assert document.status == "ready" or found_in(document) < PROMISED
        assert {(document.to_fetch, document.stored == "") for document in documents} == {(True, True), (False, False)}
        go_on(broker)
    for document in documents:
        document.refresh_from_db()
        is_whole(document)


@pytest.mark.parametrize("task", ["resend-documents"])
def test_the_beat_looks_often_enough(task: str) -> None:
    assert django_settings.CELERY_BEAT_SCHEDULE[task]["schedule"] <= 30
