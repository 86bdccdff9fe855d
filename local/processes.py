"""Starts child processes that cannot outlive the stack, and finds and ends those of a stack that was killed."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from local.home import Home, LocalError

# Every process of a stack carries this in its environment, and its value names the stack's home. Unlike a pid file it
# cannot go stale, and grandchildren inherit it.
MARK = "PARLEY_STACK"

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def die_with_parent(signum: int) -> None:
    """Ask the kernel to send us `signum` when the thread that started us ends: even SIGKILL leaves no orphan."""
    _libc.prctl(PR_SET_PDEATHSIG, signum)


def marked(home: Home, env: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a process of this stack."""
    return {**os.environ, **env, MARK: str(home.path), "PYTHONUNBUFFERED": "1"}


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    user: str | None = None,
    on_orphaned: int = signal.SIGTERM,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[str]:
    """Start a server in a session of its own, so that Ctrl-C in the terminal reaches only the supervisor.

    Call it from the main thread: the child ends when the thread that started it does.
    """
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - commands of ours
            [str(part) for part in command],
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            user=user,
            group=user and _group_of(user),
            extra_groups=[] if user else None,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, on_orphaned),  # noqa: PLW1509 - we have one thread here
            text=True,
        )


def _group_of(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def wait_until(
    probe: Callable[[], bool], *, name: str, process: subprocess.Popen[str], log: Path, seconds: float = 120.0
) -> None:
    """Poll `probe` until it holds. Raises LocalError with the end of the log when the process ends or time is up."""
    deadline = time.monotonic() + seconds
    while not probe():
        if process.poll() is not None:
            raise LocalError(f"{name} stopped with exit code {process.returncode} while starting.{tail(log)}")
        if time.monotonic() > deadline:
            raise LocalError(f"{name} was not ready after {seconds:.0f} seconds.{tail(log)}")
        time.sleep(0.05)


def healthy(url: str) -> bool:
    """Whether a loopback address answers 200."""
    try:
        with urlopen(url, timeout=2) as answer:  # noqa: S310 - the caller names an address of ours
            return bool(answer.status == HTTPStatus.OK)
    except (URLError, OSError):
        return False


def tail(log: Path, lines: int = 4) -> str:
    """The last lines of a log, to follow a sentence."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            last = file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return ""
    return "".join(f"\n    {line}" for line in (f"The end of {log}:", *last)) if last else ""


def stop(process: subprocess.Popen[str], signum: int = signal.SIGTERM, seconds: float = 10.0) -> None:
    """End one process: politely, and by force when it does not listen."""
    if process.poll() is not None:
        return
    process.send_signal(signum)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def sweep(home: Home, seconds: float = 10.0) -> int:
    """End every process that carries this home's mark. Returns how many there were."""
    found = ours(home)
    for pid in found:
        # To PostgreSQL SIGTERM means "when all clients have left", SIGINT "now, and cleanly".
        _signal(pid, signal.SIGINT if _name(pid) == "postgres" else signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while (left := ours(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        _signal(pid, signal.SIGKILL)
    return len(found)


def ours(home: Home) -> list[int]:
    """The running processes that carry this home's mark."""
    mark = f"{MARK}={home.path}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            environ = (entry / "environ").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            continue
        if mark in environ.split(b"\0"):
            found.append(int(entry.name))
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _signal(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return
