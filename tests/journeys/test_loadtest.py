"""`manage.py loadtest` against the real product: every door, refusals, an interruption, and a target that dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from local.home import Home, free_port
from local.processes import healthy, spawn, wait_until
from local.product import commands
from tests.environment import HOME, ROOT
from tests.fakes.inference import Reply
from tests.journeys.conftest import World, kill, web_process

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

WORDS = [f"w{n} " for n in range(30)]


@pytest.fixture(scope="module")
def url(world: World) -> Iterator[str]:
    with web_process("daphne") as address:
        yield address


def started(url: str, key: str, *arguments: str) -> subprocess.Popen[str]:
    """As on a laptop, where nothing of a Parley is set."""
    command = [sys.executable, "-u", "manage.py", "loadtest", url, "--assistant", "guide", *arguments]
    clean = {"PATH": os.environ["PATH"], "PARLEY_KEY": key}
    return subprocess.Popen(command, cwd=ROOT, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(url: str, key: str, folder: Path, *arguments: str) -> tuple[int, str, dict[str, Any]]:
    """Exit status, what it printed, and its figures."""
    figures = folder / "figures.json"
    process = started(url, key, *arguments, "--json", str(figures))
    said, wrong = process.communicate(timeout=150)
    return process.returncode, said + wrong, json.loads(figures.read_text()) if figures.exists() else {}


def test_users_of_every_door_come_leave_return_and_stop(url: str, world: World, tmp_path: Path) -> None:
    world.model.script(Reply(tokens=WORDS, always=True, delay=0.02))
    page = tmp_path / "report.html"
    mix = ("--mix", "rest=1,sse=2,ws=2", "--leaves", "50%", "--stops", "30%", "--verify", "100%", "--html", str(page))
    status, said, told = run(url, world.key, tmp_path, "--ramp", "5:1s", "5:6s", "--think", "50ms", *mix)
    whole = told["all"]
    assert status == 0, said
    assert (whole["broken"], whole["failed"], whole["differing"]) == ({}, {}, []), said
    assert whole["finished"] == whole["compared"] > 5
    assert whole["came_back"] > 0
    assert whole["stopped"] > 0
    assert set(told["doors"]) == {"rest", "sse", "ws"}
    for name, door in told["doors"].items():
        assert door["started"] == door["finished"] + sum(door["refused"].values()) + door["cut"]
        assert (door["first_ms"] is None) == (name == "rest")
    assert max(column["users"] for column in told["series"]) == 5
    assert "Closed loop" in said
    text = unescape(page.read_text())
    assert world.key not in text + said
    assert not re.findall(r"""(?:src|href)=|url\(|<script|style="|@import""", text)
    assert "default-src 'none'" in text
    assert f"{datetime.fromtimestamp(told['started'], UTC):%Y-%m-%d %H:%M} UTC" in text


def test_conversations_begin_at_their_rate_and_refusals_are_told_by_their_code(
    url: str, world: World, tmp_path: Path
) -> None:
    world.model.script(Reply(status=503, headers={"Retry-After": "1"}, always=True))
    status, said, told = run(
        url, world.key, tmp_path, "--rate", "4:2s", "4:1s", "--turns", "1", "--mix", "sse=1,ws=1,rest=1"
    )
    assert status == 0, said
    assert told["all"]["started"] == 8
    assert sum(told["all"]["refused"].values()) == 8, said
    assert set(told["all"]["refused"]) <= {"model_busy", "model_unavailable"}
    assert "Open loop" in said
    world.model.script()


def test_an_interrupted_test_tells_what_it_measured(url: str, world: World) -> None:
    world.model.script(Reply(tokens=WORDS, always=True, delay=0.02))
    process = started(url, world.key, "--ramp", "2:100ms", "2:10m", "--think", "50ms")
    assert process.stdout
    assert "users" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=150)
    assert process.returncode == 0
    assert "Interrupted: these are the figures until then." in said


@pytest.mark.parametrize(
    ("key", "arguments", "sentence"),
    [
        ("parley_wrong", [], "does not know this key"),
        ("", [], "There is no key"),
        ("right", ["--assistant", "nobody"], "There is no assistant 'nobody'; the key sees guide"),
        ("right", ["--mix", "soap=1"], "'soap=1' is no part of a mix"),
        ("right", ["--ramp", "5000000:1s"], "this process may have"),
        ("right", ["--questions", "/nowhere"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    url: str, world: World, key: str, arguments: list[str], sentence: str
) -> None:
    process = started(url, world.key if key == "right" else key, "--ramp", "1:1s", *arguments)
    _, said = process.communicate(timeout=150)
    assert process.returncode == 1
    assert sentence in said
    assert said.count("\n") == 1, said


def test_a_target_that_dies_is_told_as_broken(world: World, tmp_path: Path) -> None:
    world.model.script(Reply(tokens=WORDS, always=True, delay=0.2))
    port = free_port()
    log = HOME / "dying.log"
    web = spawn(commands(Home(HOME), port)["web"], log=log, env=os.environ)
    address = f"http://127.0.0.1:{port}"
    wait_until(lambda: healthy(f"{address}/healthz/ready"), name="web", process=web, log=log)
    figures = tmp_path / "figures.json"
    process = started(
        address, world.key, "--ramp", "3:100ms", "3:7s", "--patience", "2s", "--think", "50ms", "--json", str(figures)
    )
    assert process.stdout
    process.stdout.readline()  # the first five seconds are over
    kill(web)
    said, _ = process.communicate(timeout=150)
    told = json.loads(figures.read_text())
    assert process.returncode == 1
    assert set(told["all"]["broken"]) <= {"lost", "refused to connect"}
    assert sum(told["all"]["broken"].values()) >= 3, said
