"""The processes that are measured and those that are not, on cores of their own, and what the kernel says they cost."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from bench.upstream import now_us
from local.home import Home, free_port
from local.processes import healthy, spawn, stop, wait_until
from local.product import commands

SAMPLE_SECONDS = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


def share_cores() -> int:
    """Keep one core for the web process alone: this process, and all that it starts, moves to the others."""
    *others, last = sorted(os.sched_getaffinity(0))
    if not others:
        sys.exit("The benchmark needs two cores: one for the web process, one for everything else.")
    os.sched_setaffinity(0, others)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return last


@contextmanager
def every_core() -> Iterator[None]:
    """Let this process, and all that it started, use the core that is kept for the web process, too."""
    kept = sorted(os.sched_getaffinity(0))
    _move_to([])  # all that there are
    try:
        yield
    finally:
        _move_to(kept)


def _move_to(cores: list[int]) -> None:
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            process.cpu_affinity(cores)


@dataclass(frozen=True)
class Process:
    port: int
    child: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """User and system time of all its threads, in steps of a hundredth."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.child.pid}/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def stop(self) -> None:
        stop(self.child)


def start_upstream(home: Path) -> Process:
    port = free_port()
    child = spawn([sys.executable, "-m", "bench.upstream", str(port)], log=home / "upstream.log", env=os.environ)
    return _answering(Process(port, child), "the mock model server", home / "upstream.log", "/health")


def start_web(home: Path, application: str, core: int, env: Mapping[str, str]) -> Process:
    """The product's own web command, with another application perhaps, on a core of its own."""
    port = free_port()
    *command, _ = commands(Home(home), port)["web"]
    log = home / f"{application.partition(':')[0]}.log"
    child = spawn([*command, application], log=log, env={**os.environ, **env})
    os.sched_setaffinity(child.pid, {core})
    return _answering(Process(port, child), application, log, "/healthz/live")


def _answering(process: Process, name: str, log: Path, path: str) -> Process:
    wait_until(lambda: healthy(process.url + path), name=name, process=process.child, log=log)
    return process


@dataclass
class Meter:
    """A process's CPU time over time. Times are `now_us`."""

    process: Process
    times: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def sample(self) -> None:
        self.times.append(now_us())
        self.seconds.append(self.process.cpu_seconds())

    def between(self, start: int, end: int) -> float:
        """CPU seconds from `start` to `end`, to the nearest samples after them."""
        last = len(self.times) - 1
        return (
            self.seconds[min(bisect_left(self.times, end), last)]
            - self.seconds[min(bisect_left(self.times, start), last)]
        )

    @classmethod
    @asynccontextmanager
    async def running(cls, process: Process) -> AsyncIterator[Self]:
        meter = cls(process)
        meter.sample()

        async def keep_sampling() -> None:
            while True:
                await asyncio.sleep(SAMPLE_SECONDS)
                meter.sample()

        task = asyncio.create_task(keep_sampling())
        try:
            yield meter
        finally:
            task.cancel()
            meter.sample()


def spent() -> dict[str, float]:
    """Seconds of CPU of the servers that this process started, so far."""
    found = {"postgres": 0.0, "redis-server": 0.0}
    for name, ticks in _descendants(os.getpid()):
        if name in found:
            found[name] += ticks / _TICKS
    return found


def _descendants(root: int) -> Iterator[tuple[str, int]]:
    parents, known = {root}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = entry.read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        known[int(entry.parent.name)] = int(fields[1]), head.partition("(")[2], int(fields[11]) + int(fields[12])
    for pid in sorted(known):
        parent, name, ticks = known[pid]
        if parent in parents:
            parents.add(pid)
            yield name, ticks
