"""The product's own processes, web, workers, beat and layouts, supervised by honcho."""

# honcho has no type hints.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import partial
from multiprocessing import Queue
from pathlib import Path
from typing import Any

from honcho.manager import Manager
from honcho.printer import Message, Printer
from honcho.process import Popen, Process

from apps.edge import queues
from config import run
from local.home import Home, LocalError
from local.processes import die_with_parent, marked


class AttachedChild(Popen):
    """A child that ends with the process that started it."""

    def __init__(self, cmd: str, **options: Any) -> None:
        super().__init__(cmd, preexec_fn=partial(die_with_parent, signal.SIGTERM), **options)


class Attached(Process):
    """A process that ends with the supervisor, however that ends."""

    def run(self, events: Queue[Any] | None = None, ignore_signals: bool = False) -> None:
        die_with_parent(signal.SIGKILL)  # honcho relays each child's output through a process of its own
        self._child_ctor = AttachedChild
        super().run(events, ignore_signals)


class Witness(Printer):
    """Prints what honcho prints, and remembers what it learns from that."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.first_stopped = ""
        self.forked = threading.Event()

    def write(self, message: Message) -> None:
        self.forked.set()  # honcho forks first and prints then
        stopped = re.match(r"(\S+) stopped \(rc=(-?\d+)\)", message.data) if message.name == "system" else None
        if stopped and not self.first_stopped:
            self.first_stopped = f"{stopped[1]} stopped with exit code {stopped[2]}"
        super().write(message)


class Supervisor(Manager):
    """Starts web, workers, beat and layouts in its `loop()`, and ends all of them when one ends or a signal comes."""

    def __init__(self, home: Home, values: Mapping[str, str], port: int) -> None:
        self.witness = Witness()
        super().__init__(self.witness)
        self._process_ctor = Attached  # honcho has no public way to say how a process is started
        metrics = home.run / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)  # an earlier run's counts are not this one's
        metrics.mkdir(parents=True)
        env = {**marked(home, values), "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
        for name, command in commands(home, port).items():
            self.add_process(name, f"exec {shlex.join(command)}", env=env)

    def terminate(self) -> None:
        if not self._all_started():  # honcho would look for process ids that it has not heard of yet
            raise KeyboardInterrupt
        super().terminate()


def commands(home: Home, port: int) -> dict[str, list[str]]:
    """Each process's command line. Raises LocalError for an unknown PARLEY_ASGI_SERVER."""
    try:
        web = run.web(host="127.0.0.1", port=port)
    except ValueError as error:
        raise LocalError(f"{error}") from error
    return {
        "web": web,
        "worker": run.worker(concurrency=2, queues=[queues.DOCUMENTS]),
        "worker-large": run.worker(concurrency=1, queues=[queues.LARGE_DOCUMENTS]),
        "worker-rest": run.worker(concurrency=2, queues=[queues.REST]),
        "beat": run.beat(state=home.run),
        "layouts": run.layouts(every=60.0),
    }


def prepare(home: Home, values: Mapping[str, str], prepared: Path) -> subprocess.Popen[str]:
    """Start `local.prepare`; it speaks to the terminal itself."""
    return subprocess.Popen(  # noqa: S603 - a command of ours
        [sys.executable, "-m", "local.prepare", str(prepared)],
        env={**marked(home, values), "DJANGO_SETTINGS_MODULE": "config.settings"},
        stdin=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=partial(die_with_parent, signal.SIGTERM),  # noqa: PLW1509 - we have one thread here
        text=True,
    )


def release(preparing: subprocess.Popen[str]) -> None:
    """Tell `local.prepare` that the servers answer. Raises BrokenPipeError when it has ended."""
    if preparing.stdin:
        preparing.stdin.write("go\n")
        preparing.stdin.flush()
