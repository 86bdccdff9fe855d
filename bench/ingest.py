"""What ingestion does with what it stands on: the extractor, the embedding endpoint, PostgreSQL, and its workers.

Reading is measured against the extractor in this process, the endpoint by how long it had something to do, and fairness
by how long one page of a tenant takes while another uploads a thousand documents, against one and a half times as long
as it takes alone and one batch of the flood: workers are at others' batches when it comes. What a page waits for is
told, too, as is a flood of documents of many batches, each of which would keep a worker for long.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web
from asgiref.sync import async_to_sync
from django.db import connections
from kreuzberg import ExtractionConfig, PageConfig, extract_bytes_sync

from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge import embedding, ingest, vectors
from apps.knowledge.collections import create_collection
from apps.knowledge.embedding import AT_ONCE, FIRST_BATCH
from apps.knowledge.models import Chunk, Collection, Document, Embedding
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from bench import machine
from bench.upstream import DIMENSION
from chatbot.extraction import extract
from chatbot.formats import PDF
from config import run
from local.home import free_port
from local.processes import spawn, stop
from tests import factories
from tests.apps.knowledge.ingesting import manual, pdf
from tests.environment import HOME, Backends

PAGES: Final = 400
VECTORS: Final = 50_000
BATCH: Final = 1_000  # vectors stored in one transaction
SECTIONS: Final = 1_500  # of the document whose embedding is watched
FLOOD: Final = 1_000  # documents, a batch each
BOOKS: Final = 6  # documents of so many sections, more than workers are through with while pages are measured
BOOK_SECTIONS: Final = 4_000
PAGES_SENT: Final = 7
SECONDS_A_TEXT: Final = 0.004
TARGETS: Final = {"reading": 0.8, "busy": 0.95, "vectors_a_second": 50_000}
TIMES_IDLE: Final = 1.5


class Flood(NamedTuple):
    documents: int
    sections: int  # of each
    said: str


# By what the names of their files begin with.
FLOODS: Final = {
    "flood": Flood(FLOOD, FIRST_BATCH, f"{FLOOD:,} documents"),
    "books": Flood(BOOKS, BOOK_SECTIONS, f"{BOOKS} documents of {BOOK_SECTIONS:,} sections"),
}
PARTS: Final = ("reading", "storing", "busy", *FLOODS)


class Model:
    """An embedding server that answers one request at a time, on a thread of its own. busy: seconds of answering."""

    def __init__(self) -> None:
        self.busy, self.first, self.last = 0.0, 0.0, 0.0
        self.port = free_port()
        self.loop = asyncio.new_event_loop()
        self.vector = [(n % 7 - 3) / 10 for n in range(DIMENSION)]

    async def _answer(self, request: web.Request) -> web.Response:
        texts = orjson.loads(await request.read())["input"]
        async with self.line:
            began = time.perf_counter()
            self.first = self.first or began
            await asyncio.sleep(SECONDS_A_TEXT * len(texts))
            self.last = time.perf_counter()
            self.busy += self.last - began
        data = [{"object": "embedding", "index": place, "embedding": self.vector} for place in range(len(texts))]
        body = {"object": "list", "model": "bench", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    async def _serve(self) -> None:
        self.line = asyncio.Lock()
        application = web.Application(client_max_size=2**26)
        application.router.add_post("/v1/embeddings", self._answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()

    @contextmanager
    def serving(self) -> Iterator[str]:
        self.loop.run_until_complete(self._serve())
        thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{self.port}"
        self.loop.call_soon_threadsafe(self.loop.stop)
        thread.join()

    def share(self) -> float:
        """Of the time between its first and its last answer."""
        return self.busy / (self.last - self.first)


def tell(servers: Backends, parts: Sequence[str]) -> dict[str, Any]:
    """Measure these of PARTS and print each as soon as it is measured; gives the figures."""
    servers.empty_redis()
    model = Model()
    with model.serving() as address:
        factories.make_endpoint(address, name="bench embedding", model="bench", kind=Endpoint.Kind.EMBEDDING)
        gateway.forget()
        tenants = [factories.make_tenant(name) for name in ("flood", "single")]
        flood, single = (create_collection(tenant, name="Bench") for tenant in tenants)
        deeds: dict[str, Callable[[], dict[str, Any]]] = {
            "reading": lambda: {"reading": _reading()},
            "storing": lambda: _storing(flood.tenant, flood),
            "busy": lambda: {"busy": _embedding(flood.tenant, flood, model)},
            **{name: partial(_beside, name, flood, single) for name in FLOODS},
        }
        print(f"\n{'ingestion':52} {'measured':>10} {'target':>10}", flush=True)
        figures: dict[str, Any] = {}
        for part in parts:
            found = deeds[part]()
            _print(found)
            figures |= found
    return figures


def _print(figures: dict[str, Any]) -> None:
    for key, said in {
        "reading": "reading a PDF, of the extractor's own speed",
        "busy": "time for which the embedding endpoint was busy",
        "vectors_a_second": f"vectors stored a second, {AT_ONCE} batches at a time",
    }.items():
        if key in figures:
            print(f"{said:52} {figures[key]:10,.2f} {TARGETS[key]:10,.2f}", flush=True)
    if "one_at_a_time" in figures:
        print(f"one batch at a time: {figures['one_at_a_time']:,.0f} vectors stored a second", flush=True)
    for name in figures.keys() & FLOODS.keys():
        told = figures[name]
        said = f"seconds for one page beside {FLOODS[name].said}"
        print(f"{said:52} {told['page_s']:10,.2f} {TIMES_IDLE * told['idle_s'] + told['batch_s']:10,.2f}")
        print(
            f"  which is {TIMES_IDLE} times the {told['idle_s']:.2f} s that it takes alone, and a batch of"
            f" {told['batch_s']:.2f} s; until a worker took it {told['waited_s']:.2f} s",
            flush=True,
        )


def _reading() -> float:
    """How fast a PDF becomes text, of how fast the extractor itself is at the same two readings of it."""
    lines = [f"Line {line}: a valve, a pump, a seal." for line in range(40)]
    content = pdf(*("\n".join([f"Page {page}", *lines]) for page in range(PAGES)))
    paged = PageConfig(extract_pages=True)
    configs = [
        ExtractionConfig(use_cache=False, pages=paged),
        ExtractionConfig(use_cache=False, pages=paged, output_format="markdown", include_document_structure=True),
    ]
    for config in configs:  # it unpacks its libraries when it is first used
        extract_bytes_sync(content, "application/pdf", config=config)
    started = time.perf_counter()
    for config in configs:
        extract_bytes_sync(content, "application/pdf", config=config)
    bare = time.perf_counter() - started
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        started = time.perf_counter()
        extract(Path(file.name), PDF)
        return bare / (time.perf_counter() - started)


def _storing(tenant: Tenant, collection: Collection) -> dict[str, float]:
    """By one connection, and by as many as a document's batches are stored by (embedding.py). No web process runs."""
    document = factories.make_document(tenant=tenant, collection=collection)
    made = [[random.uniform(-1, 1) for _ in range(DIMENSION)] for _ in range(BATCH)]
    chunks: list[Chunk] = []
    for start in range(0, VECTORS, BATCH):
        with tenant_scope(tenant):
            chunks += Chunk.objects.bulk_create(
                Chunk(
                    tenant=tenant,
                    document=document,
                    collection=collection,
                    position=position,
                    text="A passage.",
                    tokens=3,
                    digest="",
                )
                for position in range(start, start + BATCH)
            )

    def store(start: int) -> None:
        try:
            with tenant_scope(tenant):
                vectors.store(document, collection.index, chunks[start : start + BATCH], made)
        finally:
            connections.close_all()  # as scoping.unit() does

    rates = {}
    for name, at_once in {"one_at_a_time": 1, "vectors_a_second": AT_ONCE}.items():
        with machine.every_core(), ThreadPoolExecutor(at_once) as threads:
            started = time.perf_counter()
            list(threads.map(store, range(0, VECTORS, BATCH)))
            rates[name] = VECTORS / (time.perf_counter() - started)
        with tenant_scope(tenant):
            Embedding.objects.filter(chunk__document=document)._raw_delete("default")
    document.delete()
    return rates


def _embedding(tenant: Tenant, collection: Collection, model: Model) -> float:
    document, _ = ingest.add_document(tenant, collection, name="long.md", content=manual(SECTIONS))
    ingest.ingest(tenant.pk, document.pk)
    return model.share()


def _beside(name: str, flood: Collection, single: Collection) -> dict[str, Any]:
    """Of pages that come one after the other, the median."""
    kind = FLOODS[name]
    worker = spawn(run.worker(concurrency=2), log=HOME / "worker.log", env=os.environ)
    try:
        _one_page(single)  # the worker starts
        idle = sorted(_one_page(single) for _ in range(PAGES_SENT))[PAGES_SENT // 2][0]
        for number in range(kind.documents):
            content = manual(kind.sections, version=f"{name} {number}")
            ingest.add_document(flood.tenant, flood, name=f"{name}-{number}.md", content=content)
        _until(lambda: Embedding.objects.filter(chunk__document__file_name__startswith=name).exists())
        took, waited = sorted(_one_page(single) for _ in range(PAGES_SENT))[PAGES_SENT // 2]
        batch = _one_batch(flood)
        assert Document.objects.filter(tenant=flood.tenant).unfinished().exists(), "The flood was over too early."
        for document in Document.objects.filter(tenant=flood.tenant):
            ingest.delete_document(flood.tenant, document)
    finally:
        stop(worker)
        connections.close_all()
    return {name: {"idle_s": idle, "page_s": took, "waited_s": waited, "batch_s": batch}}


def _one_page(collection: Collection) -> tuple[float, float]:
    """Seconds until it is ready, and until a worker had it."""
    started, waited = time.perf_counter(), 0.0
    content = f"# Page\n\nNumber {uuid.uuid4()}.".encode()
    document, _ = ingest.add_document(collection.tenant, collection, name="page.md", content=content)
    rows = Document.objects.filter(pk=document.pk)
    while (state := rows.values_list("status", flat=True).get()) != Document.Status.READY:
        if state == Document.Status.QUEUED:
            waited = time.perf_counter() - started
        time.sleep(0.01)
    return time.perf_counter() - started, waited


def _one_batch(collection: Collection) -> float:
    """Seconds that a batch of the flood takes, from its reservation until its vectors are stored."""
    document = factories.make_document(tenant=collection.tenant, collection=collection)
    with tenant_scope(collection.tenant):
        for position in range(FIRST_BATCH):
            text = f"Passage {position} of a batch."
            factories.make_passage(
                tenant=collection.tenant, document=document, text=text, position=position, live=False
            )
    started = time.perf_counter()
    async_to_sync(embedding.embed)(document, collection.index)
    return time.perf_counter() - started


def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.01)
