"""The real web process and worker on the test's own database, with a scripted model server behind them.

Everything is asked from outside, as clients do: rows are written once, before the processes start, and read by the API.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import pytest

from apps.inference.models import Endpoint
from config import run
from local.home import Home, free_port
from local.processes import healthy, spawn, stop, wait_until
from local.product import commands
from tests import factories
from tests.environment import HOME, ROOT, Backends
from tests.fakes.inference import Reply, embedding

PASSAGE = "The pump must be primed before the first brew."


@dataclass(frozen=True)
class Model:
    """The scripted inference server, in a process of its own."""

    base_url: str

    def script(self, *replies: Reply) -> None:
        """From now on it answers like this."""
        httpx.post(f"{self.base_url}/script", json=[asdict(reply) for reply in replies]).raise_for_status()

    def hurry(self) -> None:
        """Let no answer linger any more, until it is scripted anew."""
        httpx.post(f"{self.base_url}/hurry").raise_for_status()

    def forget(self) -> None:
        """What it was asked until now."""
        httpx.delete(f"{self.base_url}/requests").raise_for_status()

    def requests(self, path: str) -> list[dict[str, Any]]:
        """What it was asked at `path`, oldest first."""
        told = httpx.get(f"{self.base_url}/requests").raise_for_status().json()
        return [request for request in told if request["path"] == path]


@dataclass(frozen=True)
class World:
    """acme, whose assistant `guide` reads the collection `manuals`, which holds one passage."""

    key: str
    model: Model


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with model_process() as started:
        yield started


@contextmanager
def model_process(*options: str) -> Iterator[Model]:
    port = free_port()
    log = HOME / "model.log"
    command = [sys.executable, "-m", "tests.fakes.serving", "--port", str(port), *options]
    process = spawn(command, log=log, env=os.environ)
    base_url = f"http://127.0.0.1:{port}"
    wait_until(lambda: healthy(f"{base_url}/health"), name="model", process=process, log=log)
    yield Model(base_url)
    stop(process)


@pytest.fixture(scope="module")
def world(servers: Backends, django_db_setup: None, django_db_blocker: Any, model: Model) -> Iterator[World]:
    with django_db_blocker.unblock():
        tenant = factories.make_tenant("acme")
        factories.make_endpoint(model.base_url, **factories.PATIENT)
        embeddings = factories.make_endpoint(model.base_url, kind=Endpoint.Kind.EMBEDDING, **factories.PATIENT)
        index = factories.make_index(tenant=tenant, endpoint=embeddings)
        collection = factories.make_collection(tenant=tenant, index=index, slug="manuals")
        document = factories.make_document(tenant=tenant, collection=collection, title="Manual")
        factories.make_passage(
            tenant=tenant, document=document, text=PASSAGE, vector=embedding(PASSAGE), heading=["First use"], page=3
        )
        factories.make_assistant(tenant=tenant, collections=(collection,), slug="guide", max_tokens=2000)
        key = factories.make_key(tenant=tenant)
    yield World(key, model)
    servers.empty_database()
    servers.empty_redis()


@contextmanager
def web_process(server: str) -> Iterator[str]:
    """A web process as `make up` starts it, but for its patience; gives its address."""
    port = free_port()
    (HOME / "static").mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARLEY_ASGI_SERVER", server)
        command = [*commands(Home(HOME), port)["web"][:-1], "tests.patient:application"]
    log = HOME / f"{server}.log"
    process = spawn(command, log=log, env=os.environ)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: healthy(f"{address}/healthz/ready"), name=server, process=process, log=log)
        yield address
    finally:
        stop(process)


@contextmanager
def worker_process() -> Iterator[subprocess.Popen[str]]:
    """A worker that takes all tasks."""
    process = spawn(run.worker(concurrency=2), log=HOME / "worker.log", env=os.environ)
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """End a process and its children as `kill -9` would: it can neither finish nor hand over anything."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def manage(*arguments: str) -> str:
    """What a manage.py command prints."""
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
