"""No process outlives the stack, however the stack ends, and no stranger's process is touched."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local.home import Home, LocalError, environment, open_home
from local.processes import marked, ours, spawn, stop, sweep, wait_until
from tests.environment import ROOT


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "var")


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sweep_ends_children_and_grandchildren_of_this_home_only(home: Home, tmp_path: Path) -> None:
    other = open_home(tmp_path / "other")
    log = home.logs / "log"
    family = spawn(["sh", "-c", "sleep 600 & wait"], log=log, env=marked(home, {}))
    stranger = spawn(["sleep", "600"], log=log, env=marked(other, {}))
    try:
        eventually(lambda: len(ours(home)) == 2)
        assert sweep(home) == 2
        assert ours(home) == []
        assert ours(other) == [stranger.pid]
    finally:
        stop(stranger)
        stop(family)


def test_sweep_kills_what_does_not_listen(home: Home) -> None:
    log = home.logs / "log"
    deaf = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
    stubborn = spawn(["sh", "-c", deaf], log=log, env=marked(home, {}))
    eventually(lambda: "deaf" in log.read_text())
    sweep(home, seconds=0.3)
    assert stubborn.wait(10) == -signal.SIGKILL
    eventually(lambda: ours(home) == [])


def test_a_killed_supervisor_takes_its_children_along(home: Home) -> None:
    program = (
        "import sys, time; from pathlib import Path; from local.home import Home; from local.processes import *\n"
        "home = Home(Path(sys.argv[1])); spawn(['sleep', '600'], log=home.logs / 'log', env=marked(home, {}))\n"
        "time.sleep(600)"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", program, str(home.path)], cwd=ROOT)
    eventually(lambda: len(ours(home)) == 1)
    supervisor.kill()
    supervisor.wait()
    eventually(lambda: ours(home) == [])


def test_a_server_that_ends_while_starting_is_told_with_its_last_words(home: Home) -> None:
    log = home.logs / "log"
    process = spawn(["sh", "-c", "echo no such luck; exit 3"], log=log, env=marked(home, {}))
    with pytest.raises(LocalError, match=r"(?s)redis stopped with exit code 3.*no such luck"):
        wait_until(lambda: False, name="redis", process=process, log=log)


def test_secrets_are_made_once_and_readable_by_their_owner_only(home: Home) -> None:
    first = environment(home, 8000)
    second = environment(home, 8001)
    assert home.env_file.stat().st_mode & 0o777 == 0o600
    assert {name: value for name, value in first.items() if "8000" not in value} == {
        name: value for name, value in second.items() if "8001" not in value
    }
    assert second["PARLEY_BASE_URL"] == "http://127.0.0.1:8001"


def test_a_stand_in_s_port_that_was_taken_meanwhile_is_replaced(home: Home) -> None:
    before = environment(home, 8000)
    with socket.create_server(("127.0.0.1", int(before["LOCAL_POSTGRES_PORT"]))):
        after = environment(home, 8000)
    assert after["LOCAL_POSTGRES_PORT"] != before["LOCAL_POSTGRES_PORT"]
    assert f":{after['LOCAL_POSTGRES_PORT']}/" in after["DATABASE_URL"]
    assert after["LOCAL_REDIS_PORT"] == before["LOCAL_REDIS_PORT"]


def test_a_child_learns_its_home_from_its_environment(home: Home) -> None:
    assert (
        marked(home, {"A": "b"}).items()
        >= {"A": "b", "PARLEY_STACK": str(home.path), "PATH": os.environ["PATH"]}.items()
    )
