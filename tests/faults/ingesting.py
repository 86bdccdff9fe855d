"""Documents of a world: uploaded through a replica, ingested by workers that can be killed, and then looked at."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from kombu import Connection

from chatbot.tokens import estimate
from config import run
from local.processes import spawn, tail
from tests.environment import HOME, ROOT
from tests.fakes.inference import Reply
from tests.faults.client import Asker
from tests.faults.world import World

SHIPPED, HURRIED = "config.celery", "tests.faults.hurried"
READER = "chatbot.extraction"
WORDS = ("valve", "pump", "seal", "rotor", "shaft", "motor", "filter", "gauge", "hose", "clamp", "bolt", "washer")
_OURS = "document_id IN (SELECT id FROM knowledge_document WHERE stored LIKE 'documents/%')"


def manual(sections: int, canary: str = "") -> bytes:
    """Markdown, each section of which is a passage of its own that no other one equals."""
    body = " ".join(f"{word} {canary} {{n}}" for word in WORDS * 4)
    return "".join(f"# Section {n}\n\n{body.format(n=n)}.\n\n" for n in range(sections)).encode()


def sheet(rows: int, *, blank: int = 0) -> bytes:
    """CSV, which takes a second for each 300,000 rows to read, or for 10 million blank ones, of which nothing comes."""
    lines = [b"part %d,%d g,shelf %d\n" % (n, n * 7 % 1000, n % 40) for n in range(rows)]
    return b"".join([b"part,weight,place\n", *lines, b"\n" * blank])


@dataclass
class Works:
    """Where documents are ingested. home: what web and workers share. address: of the replica. broker: its address,
    where Redis is none."""

    world: World
    broker: str = ""
    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="works-", dir=HOME)))
    address: str = ""
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    # --- Processes ----------------------------------------------------------------------------------------------------

    async def open(self, root: Path = ROOT) -> None:
        """A replica that takes documents, of this checkout."""
        (self.home / "static").mkdir(exist_ok=True)
        (replica,) = await self.world.start("daphne", root=root, **self._own)
        self.address = replica.address

    def worker(self, *, concurrency: int = 1, hurried: bool = False, root: Path = ROOT) -> subprocess.Popen[str]:
        """hurried: also in a sweep; else it is as shipped there. root: the checkout that it runs."""
        return self._spawn(run.worker(concurrency=concurrency), hurried=hurried, root=root)

    def beat(self, *, hurried: bool = False) -> subprocess.Popen[str]:
        return self._spawn(run.beat(state=self.home), hurried=hurried)

    def _spawn(self, command: list[str], *, hurried: bool, root: Path = ROOT) -> subprocess.Popen[str]:
        app = HURRIED if hurried or not self.world.full else SHIPPED
        command = [app if part == SHIPPED else part for part in command]
        environment = {**os.environ, **self.world.stores.environment, **self._own}
        there = ["env", f"--chdir={root}"] if root != ROOT else []
        process = spawn([*there, *command], log=self.home / f"{len(self.processes)}.log", env=environment)
        self.processes.append(process)
        return process

    @property
    def _own(self) -> dict[str, str]:
        """What its processes' environment has beside others'."""
        return {"PARLEY_HOME": str(self.home), **({"CELERY_BROKER_URL": self.broker} if self.broker else {})}

    def log(self, process: subprocess.Popen[str]) -> str:
        return (self.home / f"{self.processes.index(process)}.log").read_text(encoding="utf-8")

    def waiting_messages(self) -> int:
        with self.world.stores.redis.client() as redis:
            return int(redis.llen("documents") + redis.llen("large-documents"))

    def give_again(self) -> None:
        """What workers have taken and not acknowledged goes to others, as when the visibility timeout is over."""
        address = self.world.stores.redis.url(0)
        with Connection(address, transport_options={"visibility_timeout": 0}) as connection:
            connection.default_channel.qos.restore_visible()

    def deliveries(self) -> int:
        """How often workers were given a document."""
        return sum(self.log(process).count("knowledge.ingest[") for process in self.processes)

    async def reading(self, worker: subprocess.Popen[str]) -> psutil.Process:
        """The process of this worker that reads a file, once there is one that has begun. It is stopped: however slow
        the test is, it has not ended."""
        found: list[psutil.Process] = []

        def begun() -> bool:
            try:
                children = psutil.Process(worker.pid).children(recursive=True)
                # It gives up its rights when all that it needs is loaded, just before the first byte.
                found[:] = [one for one in children if READER in one.cmdline() and one.cpu_times().user > 0.5]
            except psutil.NoSuchProcess:
                return False
            return bool(found)

        await self.until(begun)
        found[0].suspend()
        return found[0]

    def hurry(self, document: str) -> None:
        """Let it be sent as soon as nobody holds it: the replica, which is never hurried, put that off for a minute."""
        if not self.world.full:
            with self.world.stores.postgres.superuser() as connection:
                connection.execute("UPDATE knowledge_document SET next_attempt_at = now() WHERE id = %s", [document])

    def close(self) -> None:
        for process in self.processes:
            kill(process)
        self.world.model.script()
        with self.world.stores.postgres.superuser() as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(
                f"DELETE FROM knowledge_embedding WHERE chunk_id IN (SELECT id FROM knowledge_chunk WHERE {_OURS})"
            )
            connection.execute(f"DELETE FROM knowledge_chunk WHERE {_OURS}")
            connection.execute("DELETE FROM knowledge_document WHERE stored LIKE 'documents/%'")

    # --- Documents, as clients see them -------------------------------------------------------------------------------

    async def send(self, content: bytes, name: str = "manual.md", asker: int = 0) -> tuple[int, dict[str, Any]]:
        """Upload it; the status and body of the answer."""
        form = aiohttp.FormData({"collection": "manuals"})
        form.add_field("file", io.BytesIO(content), filename=name)
        url = f"{self.address}/api/v1/documents"
        async with self.world.session.post(url, data=form, headers=self._who(asker).headers) as response:
            return response.status, await response.json()

    async def upload(self, content: bytes, name: str = "manual.md", asker: int = 0) -> str:
        """Its id."""
        status, body = await self.send(content, name, asker)
        assert status == 202, body
        return str(body["id"])

    async def look(self, document: str, asker: int = 0) -> dict[str, Any]:
        """What the API says of it; its `code` where it is gone."""
        url = f"{self.address}/api/v1/documents/{document}"
        async with self.world.session.get(url, headers=self._who(asker).headers) as response:
            body: dict[str, Any] = await response.json()
            return body

    async def ask_for(self, deed: str, document: str, asker: int = 0) -> int:
        """`retry` or `delete`; the status of the answer."""
        url = f"{self.address}/api/v1/documents/{document}"
        method, url = ("DELETE", url) if deed == "delete" else ("POST", f"{url}/{deed}")
        async with self.world.session.request(method, url, headers=self._who(asker).headers) as response:
            return response.status

    async def becomes(self, document: str, *states: str, asker: int = 0, seconds: float = 90.0) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(seconds):
                while seen.get("status") not in states:
                    await asyncio.sleep(0.1)
                    seen = await self.look(document, asker)
        except TimeoutError:
            logs = "".join(tail(self.home / f"{n}.log") for n in range(len(self.processes)))
            raise AssertionError(f"not {states}, but {seen}{logs}") from None
        return seen

    async def found(self, text: str, asker: int = 0) -> list[str]:
        """The passages that a search finds."""
        query = {"collection": "manuals", "query": text, "limit": 20}
        url = f"{self.address}/api/v1/search"
        async with self.world.session.post(url, json=query, headers=self._who(asker).headers) as response:
            response.raise_for_status()
            return [result["text"] for result in (await response.json())["results"]]

    def _who(self, asker: int) -> Asker:
        return self.world.askers[asker]

    # --- What lies beneath --------------------------------------------------------------------------------------------

    def count(self, table: str, where: str = "true", *values: object) -> int:
        [(count,)] = self.world.stores.postgres.rows(f"SELECT count(*) FROM {table} WHERE {where}", *values)
        return int(count)

    def stored(self) -> list[Path]:
        return [path for path in (self.home / "media").rglob("*") if path.is_file()]

    def embed_at_first(self, batches: int) -> None:
        """The model server gives vectors for so many batches, and for the others once it is told to hurry."""
        half_a_second = Reply(kind="embedding", first_delay=0.5)  # so that the next one is neither larger nor smaller
        self.world.model.forget()
        self.world.model.script(*[half_a_second] * batches, replace(half_a_second, lingers_after=0, always=True))

    async def stored_at_first(self, document: str, batches: int) -> None:
        """Wait until so many are stored, and the next one is on its way."""

        def stored() -> bool:
            asked = [request["payload"]["input"] for request in self.world.model.requests("/v1/embeddings")]
            return len(asked) > batches and self.progress(document) == sum(map(len, asked[:batches]))

        await self.until(stored, seconds=200)

    def embedded(self, marked: str) -> list[str]:
        """Each passage with this word that the model server was given to embed, in order, as often as it was."""
        asked = self.world.model.requests("/v1/embeddings")
        return [text for request in asked for text in request["payload"]["input"] if marked in text and "\n" in text]

    def stored_texts(self, document: str) -> set[str]:
        """Of the passages that have a vector, as the model server was given them."""
        rows = self.world.stores.postgres.rows(
            "SELECT d.title, c.heading, c.text FROM knowledge_chunk c JOIN knowledge_document d ON d.id = c.document_id"
            " JOIN knowledge_embedding e ON e.chunk_id = c.id WHERE d.id = %s",
            document,
        )
        return {"\n".join([" > ".join(dict.fromkeys([title, *heading])), text]) for title, heading, text in rows}

    def is_whole(self, document: str, texts: set[str]) -> None:
        """It is ready, once: each passage with its one vector, all live, and each paid for once.

        texts: of its passages, as the model server was given them.
        """
        [(status, passages)] = self.world.stores.postgres.rows(
            "SELECT status, passages FROM knowledge_document WHERE id = %s", document
        )
        assert status == "ready"
        assert passages > 0
        of_it = "chunk_id IN (SELECT id FROM knowledge_chunk WHERE document_id = %s)"
        assert self.count("knowledge_chunk", "document_id = %s", document) == passages
        assert self.count("knowledge_chunk", "document_id = %s AND live", document) == passages
        assert self.count("knowledge_embedding", of_it, document) == passages
        assert self.count("knowledge_embedding", f"{of_it} AND live AND dimension = 384", document) == passages
        assert len(texts) == passages
        bills = self.world.stores.postgres.rows(
            "SELECT bill, sum(prompt_tokens), sum(pages) FROM usage_usagerecord WHERE document_id = %s GROUP BY 1",
            document,
        )
        paid = {bill: (tokens, pages) for bill, tokens, pages in bills}
        assert paid["once"][0] == sum(map(estimate, texts))
        assert self.count("usage_usagerecord", "document_id = %s AND pages > 0", document) == 1
        assert set(paid) <= {"once", "loss"}, paid

    async def until(self, condition: Callable[[], bool], seconds: float = 90.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not condition():  # noqa: ASYNC110 - of other processes
                    await asyncio.sleep(0.05)
        except TimeoutError:
            logs = "".join(tail(self.home / f"{n}.log") for n in range(len(self.processes)))
            raise AssertionError(f"what was waited for did not happen{logs}") from None

    def progress(self, document: str) -> int:
        [(done,)] = self.world.stores.postgres.rows(
            "SELECT progress_done FROM knowledge_document WHERE id = %s", document
        )
        return int(done)


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9, with its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def has_ended(process: psutil.Process) -> bool:
    """Also where nobody has asked yet how."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
