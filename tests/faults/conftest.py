"""Replicas as the product starts them, on a database, a Redis and a scripted model server of their own; what is done
to them; and what must hold whatever was done (FAULTS: the invariants).

Counters against the ledger are compared once there are quotas.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import httpx
import pytest

from local.home import Home, free_port
from local.processes import healthy, spawn, wait_until
from local.product import commands
from tests.environment import HOME, Backends
from tests.fakes.inference import Reply
from tests.faults.client import Reader
from tests.journeys.conftest import Model, World, kill, model_process, world

__all__ = ["world"]

WORDS = [f"w{n} " for n in range(60)]
ANSWER = "".join(WORDS)


@dataclass
class Replica:
    server: str
    address: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        kill(self.process)

    def hang(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@dataclass
class Cluster:
    world: World
    servers: Backends
    stack: ExitStack
    replicas: list[Replica] = field(default_factory=list)

    def add(self, server: str, **environment: str) -> Replica:
        port = free_port()
        (HOME / "static").mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PARLEY_ASGI_SERVER", server)
            command = commands(Home(HOME), port)["web"]
        log = HOME / f"replica-{port}.log"
        process = spawn(command, log=log, env={**os.environ, "PARLEY_ASGI_SERVER": server, **environment})
        replica = Replica(server, f"http://127.0.0.1:{port}", process)
        self.stack.callback(kill, process)
        wait_until(lambda: healthy(f"{replica.address}/healthz/ready"), name=server, process=process, log=log)
        self.replicas.append(replica)
        return replica

    def script(self, *tokens: str, delay: float = 0.05, **how: object) -> None:
        self.world.model.script(Reply(tokens=list(tokens or WORDS), delay=delay, always=True, **how))

    def http(self, replica: Replica) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.world.key}"}
        return httpx.Client(base_url=f"{replica.address}/api/v1", headers=headers, timeout=30)

    def ask(self, *replicas: Replica) -> Reader:
        """Ask through the first one; come back through the others, in turns."""
        with self.http(replicas[0]) as http:
            conversation = http.post("conversations", json={"assistant": "guide"}).raise_for_status().json()["id"]
        reader = Reader([replica.address for replica in replicas], self.world.key, conversation)
        reader.start()
        return reader

    def follow(self, turn: str, *replicas: Replica) -> Reader:
        reader = Reader([replica.address for replica in replicas], self.world.key, turn=turn)
        reader.start()
        return reader

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        return self.servers.superuser.execute(query, values).fetchall()

    def check(self, reader: Reader, *, state: str = "finished", bill: str = "once") -> None:
        """One terminal state, one settled ledger row with this bill, and the reader has what is stored."""
        found = self.rows(
            "SELECT t.state, coalesce(m.text, '') FROM conversations_turn t"
            " LEFT JOIN conversations_message m ON m.id = t.answer_id WHERE t.id = %s",
            reader.turn,
        )
        assert found == [(state, reader.text)]
        ledger = self.rows("SELECT state, bill FROM usage_usagerecord WHERE turn_id = %s", reader.turn)
        assert ledger == [("settled", bill)]
        open_turns = self.rows("SELECT id FROM conversations_turn WHERE state IN ('queued', 'running')")
        assert open_turns == []


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    """It can go on from the beginning of an answer."""
    with model_process("--dialect", "vllm") as started:
        yield started


@pytest.fixture
def cluster(world: World, servers: Backends) -> Iterator[Cluster]:
    """No replica yet."""
    servers.superuser.execute("UPDATE inference_endpoint SET protocol = 'vllm' WHERE kind = 'chat'")
    with ExitStack() as stack:
        yield Cluster(world, servers, stack)


@pytest.fixture
def endpoint_without_continuation(cluster: Cluster) -> None:
    """The model server begins again instead."""
    cluster.servers.superuser.execute("UPDATE inference_endpoint SET protocol = 'openai' WHERE kind = 'chat'")
