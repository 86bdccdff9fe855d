"""Parley's own processes, alike in a container and under `make up`: `python -m config.run web`."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from apps.edge.queues import QUEUES
from config.env import BASE_DIR, read_files, refuse

SERVERS = ("daphne", "uvicorn")


def web(*, host: str, port: int) -> list[str]:
    """The web server that PARLEY_ASGI_SERVER names; the application comes last. Raises ValueError for another."""
    server = os.environ.get("PARLEY_ASGI_SERVER") or "daphne"
    if server not in SERVERS:
        raise ValueError(f"PARLEY_ASGI_SERVER must be daphne or uvicorn, but is {server!r}.")
    options = _daphne(host, port) if server == "daphne" else _uvicorn(host, port)
    return [sys.executable, "-m", server, *options, "config.asgi:application"]


# What docs/websocket.md promises of sockets. Pings as often as streams say that they live (apps/edge/frames.py); the
# answer has to come before the next one, since Daphne waits for one at a time.
FRAME_BYTES = 64 * 1024
PING_SECONDS = 25
PONG_SECONDS = 20

# Their own backlogs turn a reconnecting crowd away. Neither is told of proxies: they would take the first address of
# X-Forwarded-For, which any client can write there (apps/edge/proxies.py).


def _daphne(host: str, port: int) -> list[str]:
    interface = host.replace(":", r"\:")  # Twisted separates an endpoint's parts by colons
    endpoint = f"tcp:port={port}:interface={interface}:backlog=4096"
    options = (
        f"--ping-interval {PING_SECONDS} --ping-timeout {PONG_SECONDS}"
        f" --websocket-max-frame-size {FRAME_BYTES} --websocket-max-message-size {FRAME_BYTES}"
    )
    return ["-e", endpoint, "--access-log", os.devnull, *options.split()]


def _uvicorn(host: str, port: int) -> list[str]:
    options = (
        f"--host {host} --port {port} --backlog 4096 --loop uvloop --http httptools --no-access-log"
        " --ws websockets-sansio --ws-per-message-deflate false --timeout-keep-alive 60 --timeout-graceful-shutdown 5"
        f" --ws-max-size {FRAME_BYTES} --ws-ping-interval {PING_SECONDS} --ws-ping-timeout {PONG_SECONDS}"
    )
    # Left to itself it believes whoever connects from this machine.
    return [*options.split(), "--no-proxy-headers"]


def worker(*, concurrency: int, queues: Sequence[str] = QUEUES) -> list[str]:
    """concurrency: tasks at the same time, each in a process of its own. queues: those that they are taken from."""
    name = queues[0] if len(queues) == 1 else "worker"
    taken = ["--queues", ",".join(queues), "--hostname", f"{name}@%h"]  # each of a host has a name of its own
    return [*_celery(), "worker", "--concurrency", str(concurrency), *taken, *_WORKER]


# Workers need not know each other, and need not wait a second for one another's greeting.
_WORKER = ["--loglevel", "INFO", "--without-gossip", "--without-mingle"]


def beat(*, state: Path) -> list[str]:
    """state: a writable directory; what beat keeps there may be lost."""
    return [*_celery(), "beat", "--schedule", str(state / "beat"), "--pidfile", "", "--loglevel", "WARNING"]


def layouts(*, every: float) -> list[str]:
    """every: seconds between two looks."""
    return [sys.executable, str(BASE_DIR / "manage.py"), "move_layouts", "--every", str(every)]


def _celery() -> list[str]:
    return [sys.executable, "-m", "celery", "--quiet", "-A", "config.celery"]


def command_line(arguments: list[str]) -> list[str]:
    """What `python -m config.run ARGUMENTS` becomes. Exits with a sentence where they or the environment are wrong."""
    parser = argparse.ArgumentParser(prog="python -m config.run", description="Run one of Parley's own processes.")
    deeds = parser.add_subparsers(required=True)
    serving = deeds.add_parser("web", help="REST, SSE, WebSocket and the admin")
    serving.set_defaults(command=web)
    serving.add_argument("--host", default="127.0.0.1", help="the interface to listen on")
    serving.add_argument("--port", type=_port, default=8000)
    working = deeds.add_parser("worker", help="ingests documents, and does whatever nobody waits for")
    working.set_defaults(command=worker)
    working.add_argument("--concurrency", type=_count, default=2, help="tasks done at the same time")
    working.add_argument("--queues", nargs="+", choices=QUEUES, default=QUEUES, help="where they come from; else all")
    beating = deeds.add_parser("beat", help="sends again what got lost; exactly one")
    beating.set_defaults(command=beat)
    beating.add_argument("--state", type=Path, default=Path(tempfile.gettempdir()), help="a writable directory")
    moving = deeds.add_parser("layouts", help="builds and drops HNSW indexes, as the owner of the tables; exactly one")
    moving.set_defaults(command=layouts)
    moving.add_argument("--every", type=_seconds, default=60.0, help="seconds between two looks")
    options = vars(parser.parse_args(arguments))
    try:
        command: list[str] = options.pop("command")(**options)
    except ValueError as error:
        refuse(f"{error}")
    return command


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"must be a port from 1 to {2**16 - 1}, but is {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, but is {text!r}: nothing would be done")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be seconds, more than 0, but is {text!r}")
    return seconds


def main() -> None:
    """Become the process: its signals and its exit code are this one's."""
    read_files()
    command = command_line(sys.argv[1:])
    if os.environ.get("PARLEY_WORKER_METRICS_ADDRESS") and "worker" in command:
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="parley-metrics-"))
    _forget_counts()
    os.execv(command[0], command)  # noqa: S606 - a command of ours


def _forget_counts() -> None:
    """Empty the directory of the Prometheus client: an earlier process's counts are not this one's. Processes that
    share one must not be started by this."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        counts = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        shutil.rmtree(counts, ignore_errors=True)
        counts.mkdir(parents=True)


if __name__ == "__main__":
    main()
