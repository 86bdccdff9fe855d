"""Documents to ingest, and what tests ask of an ingestion."""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
from django.conf import settings as django_settings
from django.db import connections
from django.utils import timezone
from reportlab.pdfgen.canvas import Canvas

from apps.knowledge.ingest import add_document, ingest
from apps.knowledge.models import Chunk, Collection, Document
from apps.tenants.models import Tenant
from tests.fakes.inference import FakeInference

WORDS = ("valve", "pump", "seal", "rotor", "shaft", "motor", "filter", "gauge", "hose", "clamp", "bolt", "washer")


def page(section: int, *, version: str = "one") -> str:
    """A section long enough to be a passage of its own."""
    body = " ".join(f"{word} {version} {section}" for word in WORDS * 5)
    return f"# Section {section}\n\n{body}.\n\n"


def manual(sections: int, *, version: str = "one") -> bytes:
    return "".join(page(n, version=version) for n in range(sections)).encode()


def sheet(number: int) -> bytes:
    """CSV that takes about a second to read."""
    return b"part,weight\nseal %d,3\n" % number + b"\n" * 2**23


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
    """As its next attempt leaves it, whose time has come."""
    Document.objects.filter(pk=document.pk).update(next_attempt_at=timezone.now())
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


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
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
    thread.join(90)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


@contextmanager
def stopped(*, but: tuple[int, ...] = ()) -> Iterator[int]:
    """The process that reads a file stands still; which it is."""
    found: list[psutil.Process] = []

    def begun() -> bool:
        children = psutil.Process().children()
        found[:] = [one for one in children if one.pid not in but and "chatbot.extraction" in one.cmdline()]
        return bool(found)

    until(begun)
    found[0].suspend()
    try:
        yield found[0].pid
    finally:
        with suppress(psutil.NoSuchProcess):
            found[0].send_signal(signal.SIGCONT)
