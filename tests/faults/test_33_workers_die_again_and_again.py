"""Row 33, again and again: many documents of many tenants while workers are killed at random. In the end each document
is ready, whole and paid for once, or failed and says why, and nothing else is left. In a sweep there are 2,000."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Sum

from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge import storage, tasks
from apps.knowledge.collections import create_collection
from apps.knowledge.embedding import embedded_text
from apps.knowledge.ingest import add_document, delete_document
from apps.knowledge.models import Chunk, Collection, Document, Embedding, Tombstone
from apps.tenants.models import Tenant
from apps.usage.models import UsageRecord
from chatbot.tokens import estimate
from config import run
from local.processes import spawn, tail
from tests import factories
from tests.faults.ingesting import HURRIED, SHIPPED, kill, manual
from tests.journeys.conftest import Model

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(3600)]

FULL = "PARLEY_FAULTS_FULL" in os.environ
DOCUMENTS, TENANTS, KILLS, WORKERS = (2_000, 20, 60, 2) if FULL else (36, 6, 3, 2)
# Of so many documents one is damaged, one has several batches, one is deleted on its way.
DAMAGED, LONG, DELETED = 11, 7, 13


@dataclass
class Soak:
    """home: what workers share with the test."""

    home: Path
    chance: random.Random
    running: list[subprocess.Popen[str]] = field(default_factory=list)
    started: int = 0

    def start(self, command: list[str]) -> None:
        app = SHIPPED if FULL else HURRIED
        command = [app if part == SHIPPED else part for part in command]
        self.running.append(
            spawn(command, log=self.home / f"{self.started}.log", env={**os.environ, "PARLEY_HOME": str(self.home)})
        )
        self.started += 1

    def worker(self) -> None:
        self.start(run.worker(concurrency=2))

    def kill_one(self) -> None:
        """Another one comes in its place. The first process is beat."""
        dies = self.chance.choice(self.running[1:])
        kill(dies)
        self.running.remove(dies)
        self.worker()

    def until(self, holds: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            logs = "" if time.monotonic() < deadline else "".join(tail(log) for log in self.home.glob("*.log"))
            assert time.monotonic() < deadline, f"what was waited for did not happen{logs}"
            time.sleep(0.1)


@pytest.fixture
def soak(
    database: None, engine: Model, tmp_path: Path, settings: Any, request: pytest.FixtureRequest
) -> Iterator[Soak]:
    settings.MEDIA_ROOT = tmp_path / "media"
    engine.script()
    factories.make_endpoint(engine.base_url, kind=Endpoint.Kind.EMBEDDING)
    gateway.forget()
    made = Soak(tmp_path, random.Random(f"{os.environ.get('PARLEY_FAULTS_SEED', '')} {request.node.name}"))
    yield made
    for process in made.running:
        kill(process)


def content_of(number: int) -> tuple[str, bytes]:
    """Its name and bytes, which no other has."""
    if number % DAMAGED == 0:
        return f"{number}.pdf", b"%%PDF-1.7 and then nothing, %d" % number
    return f"{number}.md", manual(40 if number % LONG == 0 else 3, f"number{number}")


def test_every_document_ends_ready_or_failed(soak: Soak) -> None:
    tenants = [factories.make_tenant(f"soak-{number}") for number in range(TENANTS)]
    collections = [create_collection(tenant, name="Manuals") for tenant in tenants]
    deleted = add_all(soak, tenants, collections)
    soak.start(run.beat(state=soak.home))
    for _ in range(WORKERS):
        soak.worker()
    left = Document.objects.unfinished()
    for kills in range(KILLS):
        # Between two deaths something is finished: they are spread over all of the work.
        wanted = (KILLS - kills) * DOCUMENTS // (KILLS + 1)
        soak.until(lambda wanted=wanted: left.count() <= wanted, 300)  # type: ignore[misc]
        time.sleep(soak.chance.uniform(0, 0.5))
        soak.kill_one()
        if deleted:
            delete_document(*deleted.pop())
    for tenant, document in deleted:
        delete_document(tenant, document)
    soak.until(lambda: not left.exists(), 600)
    for process in soak.running:
        kill(process)
    tasks.forget_deleted()
    assert Document.objects.count() == DOCUMENTS - len(range(0, DOCUMENTS, DELETED))
    for document in Document.objects.select_related("tenant"):
        is_as_it_should_be(document)
    nothing_else_is_left()


def add_all(soak: Soak, tenants: list[Tenant], collections: list[Collection]) -> list[tuple[Tenant, Document]]:
    """Queue all documents, in no order; gives those that are to be deleted."""
    numbers = list(range(DOCUMENTS))
    soak.chance.shuffle(numbers)
    chosen = []
    for number in numbers:
        place = number % TENANTS
        name, content = content_of(number)
        document, _ = add_document(tenants[place], collections[place], name=name, content=content)
        if number % DELETED == 0:
            chosen.append((tenants[place], document))
    return chosen


def is_as_it_should_be(document: Document) -> None:
    chunks = Chunk.objects.for_tenant(document.tenant_id).filter(document=document)
    vectors = Embedding.objects.for_tenant(document.tenant_id).filter(chunk__document=document)
    bills = UsageRecord.objects.for_tenant(document.tenant_id).filter(document_id=document.pk)
    if document.file_name.endswith(".pdf"):
        assert (document.status, document.failure_code) == ("failed", "parser")
        assert document.failure_message.endswith(".")
        assert not chunks.exists()
        assert not bills.filter(bill="once").exists()
        return
    assert document.status == "ready", (document.status, document.failure_message)
    assert chunks.filter(live=True).count() == chunks.count() == document.passages > 0
    assert vectors.filter(live=True).count() == vectors.count() == document.passages
    texts = [embedded_text(document, chunk) for chunk in chunks]
    assert bills.filter(bill="once").aggregate(all=Sum("prompt_tokens"))["all"] == sum(map(estimate, texts))
    assert bills.filter(pages__gt=0).count() == 1


def nothing_else_is_left() -> None:
    """No passage, vector, reservation, tombstone or file that belongs to no document."""
    documents = Document.objects.values_list("pk", flat=True)
    assert not Chunk.objects.exclude(document__in=documents).exists()
    assert Embedding.objects.count() == Chunk.objects.count()
    # What was reserved for one that is deleted is swept, in a few minutes.
    assert not UsageRecord.objects.filter(state="reserved", document_id__in=documents).exists()
    # A quotation is forgotten by another task, which looks at answers.
    assert not Tombstone.objects.exclude(stored="").exists()
    root = storage.default_storage.base_location  # type: ignore[attr-defined]
    stored = {str(path.relative_to(root)) for path in Path(root).rglob("*") if path.is_file()}
    assert stored == set(Document.objects.values_list("stored", flat=True))
