"""Web processes as the product starts them, each with a log of its own, and what can be done to one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from local.home import Home, free_port
from local.processes import spawn, tail
from local.product import commands
from tests.environment import HOME, ROOT

PATIENT = "tests.patient:application"


@dataclass
class Replica:
    """environment: the whole of it. root: the checkout that it runs."""

    server: str
    port: int
    log: Path
    environment: Mapping[str, str]
    root: Path = ROOT
    process: subprocess.Popen[str] = field(init=False)
    resident: int = 0  # bytes, once it was ready

    @property
    def address(self) -> str:
        return f"http://{self.place}"

    @property
    def place(self) -> str:
        """As nginx has it."""
        return f"127.0.0.1:{self.port}"

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    async def ready(self, session: aiohttp.ClientSession, seconds: float = 90.0) -> None:
        async with asyncio.timeout(seconds):
            while not await self._is_ready(session):
                assert self.is_alive, f"{self.server} ended.{tail(self.log)}"
                await asyncio.sleep(0.05)
        self.resident = self.memory()

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.address}/healthz/ready") as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    # --- What is done to it -------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """kill -9: it can neither finish nor hand over anything."""
        if self.is_alive:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def hang(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def gone(self, seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while self.is_alive:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.05)

    # --- What it looks like -------------------------------------------------------------------------------------------

    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def connections(self, port: int) -> int:
        """How many it has to a server at this port, or from clients where the port is its own."""
        found = psutil.Process(self.process.pid).net_connections("tcp4")
        open_ones = [one for one in found if one.status == psutil.CONN_ESTABLISHED]
        if port == self.port:
            return sum(one.laddr.port == port for one in open_ones)
        return sum(one.raddr.port == port for one in open_ones)

    def lines(self) -> list[dict[str, Any]]:
        """What it logged; whatever is not JSON is of its server's start."""
        told = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [json.loads(line) for line in told if line.startswith("{") and line.endswith("}")]


def launch(
    server: str,
    stores: Mapping[str, str],
    *,
    port: int = 0,
    root: Path = ROOT,
    output: Path | None = None,
    patient: bool = True,
    **environment: str,
) -> Replica:
    """A web process that has just been started, at this port or at a free one. output: where it writes instead of its
    log. patient: it gives its stores more time than the product does (tests/patience.py)."""
    port = port or free_port()
    home = Path(tempfile.mkdtemp(prefix="replica-", dir=HOME))
    (home / "static").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARLEY_ASGI_SERVER", server)
        command = commands(Home(home), port)["web"]
    if patient:
        command = [*command[:-1], PATIENT]
    environment = {
        **os.environ,
        **stores,
        "PARLEY_HOME": str(home),
        "PARLEY_ASGI_SERVER": server,
        "PARLEY_BASE_URL": f"http://127.0.0.1:{port}",
        **environment,
    }
    replica = Replica(server, port, home / "web.log", environment, root)
    # `python -m` finds the product in the directory that it is started in.
    there = ["env", f"--chdir={root}"] if root != ROOT else []
    replica.log.touch()
    replica.process = spawn([*there, *command], log=output or replica.log, env=environment)
    return replica


async def manage(stores: Mapping[str, str], *arguments: str) -> str:
    """What a manage.py command prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "manage.py", *arguments, cwd=ROOT, env={**os.environ, **stores}, stdout=subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()
