"""`make up` and `make down`: the servers, then the product, then a block that says how to reach it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from local import postgres, product
from local.home import Home, LocalError, environment, port_is_free
from local.processes import healthy, stop, sweep, tail
from local.servers import Servers

START_SECONDS = 300  # the first start embeds documents, and machines differ
STOP_SECONDS = 40


def up(home: Home, port: int) -> None:
    """Run the stack until a signal ends it; where it runs already, say so. Raises LocalError when a part fails."""
    with _sole_supervisor(home) as sole:
        if not sole:
            _wait_for_other(home, port)
            return
        home.ready.unlink(missing_ok=True)
        if sweep(home):
            print("Ended what an earlier run had left behind.", flush=True)
        if not port_is_free(port):
            raise LocalError(
                f"Port {port} is taken by another program: free it, or choose another with make up PORT={port + 1}"
            )
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, _interrupt)
        try:
            _run(home, environment(home, port), port)
        finally:
            home.ready.unlink(missing_ok=True)
            sweep(home)


def down(home: Home) -> None:
    """Stop the stack of this home, and whatever a killed one left behind."""
    stopped = 0
    if pid := _supervisor_pid(home):
        stopped += 1
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _supervisor_pid(home) and time.monotonic() < deadline:
            time.sleep(0.1)
        if _supervisor_pid(home):
            os.kill(pid, signal.SIGKILL)
    stopped += sweep(home)
    print("Parley has stopped." if stopped else "Nothing was running.")


def up_detached(home: Home, port: int) -> None:
    """Start the stack in the background and return when it is ready. Its output goes to var/log/parley.log."""
    log = home.logs / "parley.log"
    with log.open("w", encoding="utf-8") as output:
        child = subprocess.Popen(  # noqa: S603 - a command of ours
            [sys.executable, "-m", "local", "up", "--home", str(home.path), "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            while child.poll() is None and not _announced(home):
                _relay(lines.read())
                time.sleep(0.1)
            _relay(lines.read())
    except KeyboardInterrupt:
        stop(child, seconds=STOP_SECONDS)
        raise
    if child.poll():
        raise SystemExit(child.returncode)


def _relay(text: str) -> None:
    """Print progress, without the lines of the processes' own logs."""
    print(re.sub(r"(?m)^\d\d:\d\d:\d\d .*\n?", "", text), end="", flush=True)


# --- One supervisor a home --------------------------------------------------------------------------------------------


@contextmanager
def _sole_supervisor(home: Home) -> Iterator[bool]:
    """Hold the home's lock, with our pid in it. Gives False where another supervisor does; a dead one's is free."""
    with _lock_file(home).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield True


def _supervisor_pid(home: Home) -> int | None:
    """The running supervisor's process id."""
    if not _lock_file(home).exists():
        return None
    with _lock_file(home).open("r+", encoding="utf-8") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read() or 0) or None
    return None


def _announced(home: Home) -> bool:
    """Whether the running supervisor, not one that was killed, has said that the product is ready."""
    try:
        pid = int(home.ready.read_text(encoding="utf-8").partition(" ")[0])
    except (FileNotFoundError, ValueError):
        return False
    return pid == _supervisor_pid(home)


def _lock_file(home: Home) -> Path:
    return home.run / "lock"


def _wait_for_other(home: Home, port: int) -> None:
    if not _announced(home):
        print("Parley is already starting; waiting for it.", flush=True)
    deadline = time.monotonic() + START_SECONDS
    while not _announced(home):
        if not _supervisor_pid(home):
            raise LocalError("The Parley that was starting has stopped: its own terminal, or var/log, says why.")
        if time.monotonic() > deadline:
            raise LocalError(f"The Parley that is starting was not ready after {START_SECONDS} seconds.")
        time.sleep(0.2)
    announce(home)
    if not home.ready.read_text(encoding="utf-8").endswith(f":{port}"):
        print("It was started on that port; to change it, run `make down` first.")


# --- Starting and watching --------------------------------------------------------------------------------------------


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(home: Home, values: Mapping[str, str], port: int) -> None:
    """Servers, preparation, product; everything is stopped again in the opposite order."""
    prepared = home.run / "prepared"
    prepared.unlink(missing_ok=True)
    supervisor = product.Supervisor(home, values, port)
    with ExitStack() as cleanup:
        print("Starting PostgreSQL, Redis, the chat model and the embedding model", flush=True)
        servers = Servers()
        cleanup.callback(servers.stop)
        preparing = product.prepare(home, values, prepared)
        cleanup.callback(stop, preparing)
        servers.start(home, values)
        servers.wait()
        postgres.prepare(int(values["LOCAL_POSTGRES_PORT"]), _passwords(values))
        with suppress(BrokenPipeError):  # it died: told of just below
            product.release(preparing)
        watch = Watch(home, servers, preparing, supervisor, values["PARLEY_BASE_URL"])
        while not prepared.exists():
            if trouble := watch.trouble():
                raise LocalError(trouble)
            time.sleep(0.05)
        watch.start()
        supervisor.loop()  # type: ignore[no-untyped-call]
        watch.over.set()
        watch.join()
    if watch.failure:
        raise LocalError(watch.failure)
    if supervisor.returncode not in (130, 143):  # honcho's codes for SIGINT and SIGTERM
        raise LocalError(f"{supervisor.witness.first_stopped}, and the rest with it: its last lines above say why.")


def _passwords(values: Mapping[str, str]) -> dict[str, str]:
    return {
        postgres.SUPERUSER: values["LOCAL_SUPERUSER_PASSWORD"],
        postgres.OWNER: values["LOCAL_OWNER_PASSWORD"],
        postgres.APP: values["LOCAL_APP_PASSWORD"],
        postgres.OPERATOR: values["LOCAL_OPERATOR_PASSWORD"],
    }


class Watch(threading.Thread):
    """Announces that the product is ready, and ends it when a server dies or it does not become ready."""

    def __init__(
        self,
        home: Home,
        servers: Servers,
        preparing: subprocess.Popen[str],
        supervisor: product.Supervisor,
        base_url: str,
    ) -> None:
        super().__init__(daemon=True)
        self.home = home
        self.servers = servers
        self.preparing = preparing
        self.supervisor = supervisor
        self.base_url = base_url
        self.deadline = time.monotonic() + START_SECONDS
        self.over = threading.Event()
        self.announced = False
        self.failure: str | None = None

    def trouble(self) -> str | None:
        """What went wrong so far, as a sentence."""
        if dead := self.servers.dead():
            return dead.obituary()
        if self.preparing.poll():
            return "Preparing the database and the demo failed: the lines above say why."
        if not self.announced and time.monotonic() > self.deadline:
            return f"Parley was not ready after {START_SECONDS} seconds.{tail(self.home.logs / 'parley.log')}"
        return None

    def run(self) -> None:
        # A fork copies locks that another thread holds at that moment, so keep still until honcho has forked.
        self.supervisor.witness.forked.wait()
        while not self.over.wait(0.2):
            self.failure = self.trouble()
            if self.failure:
                os.kill(os.getpid(), signal.SIGTERM)  # honcho stops the product in the main thread
                return
            if not self.announced and self._is_ready():
                announce(self.home)
                self.announced = True
                self.home.ready.write_text(f"{os.getpid()} {self.base_url}", encoding="utf-8")

    def _is_ready(self) -> bool:
        """The quick start can be searched, and the web process takes questions."""
        return self.preparing.poll() == 0 and healthy(f"{self.base_url}/healthz/ready")


def announce(home: Home) -> None:
    """Print where everything is, from var/demo.json."""
    demo = json.loads(home.demo.read_text(encoding="utf-8"))
    url = demo["base_url"]
    print(
        f"""
  Parley is ready.

    Admin      {url}/admin/
               {demo["admin"]["email"]}  {demo["admin"]["password"]}
    API        {url}/api/docs
    API key    {demo["api_key"]}
    Assistant  {demo["assistant"]} of tenant {demo["tenant"]}

  The local chat model is small and often wrong: it proves the path, not the answers.
  The same is in {home.demo}. Ctrl-C or `make down` stops everything.
""",
        flush=True,
    )
