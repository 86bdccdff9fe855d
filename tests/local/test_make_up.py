"""`make up` as a newcomer meets it: from nothing to a searchable quick start, and gone without trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from local.home import Home, free_port
from local.processes import ours, sweep
from tests.environment import ENVIRONMENT, ROOT

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]


class Checkout:
    """The commands as they are typed, with a home and a port of their own."""

    def __init__(self, home: Path) -> None:
        self.home = Home(home)
        self.port = free_port()
        # A newcomer's shell knows nothing of the environment that tests run in.
        self.env = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=ROOT, env=self.env, capture_output=True, text=True, check=False
        )

    def command(self, *arguments: str) -> list[str]:
        return ["make", *arguments, f"PORT={self.port}", f"PARLEY_HOME={self.home.path}"]

    def until_ready(self, process: subprocess.Popen[bytes]) -> None:
        while not self.home.ready.exists():
            assert process.poll() is None
            time.sleep(0.1)

    def search(self, text: str) -> list[dict[str, object]]:
        demo = json.loads(self.home.demo.read_text())
        request = Request(
            f"{demo['base_url']}/api/v1/search",
            data=json.dumps({"collection": "parley-docs", "query": text}).encode(),
            headers={"Authorization": f"Bearer {demo['api_key']}", "Content-Type": "application/json"},
        )
        with urlopen(request, timeout=30) as answer:
            found: list[dict[str, object]] = json.load(answer)["results"]
        return found


@pytest.fixture(scope="module")
def checkout() -> Iterator[Checkout]:
    # Not pytest's own directory: it closes that to others, and PostgreSQL runs as another user when we are root.
    home = Path(tempfile.mkdtemp(prefix="parley-up-"))
    checkout = Checkout(home)
    yield checkout
    sweep(checkout.home)
    shutil.rmtree(home)


def test_the_first_start_ends_with_a_searchable_quick_start(checkout: Checkout) -> None:
    started = checkout.make("up", "DETACH=1")
    assert started.returncode == 0, started.stdout + started.stderr
    demo = json.loads(checkout.home.demo.read_text())
    for told in (demo["base_url"], demo["admin"]["email"], demo["admin"]["password"], demo["api_key"]):
        assert told in started.stdout
    assert demo["base_url"] == f"http://127.0.0.1:{checkout.port}"
    assert checkout.search("how do I start it?")


def test_a_second_start_says_the_same_and_starts_nothing(checkout: Checkout) -> None:
    before = set(ours(checkout.home))
    again = checkout.make("up")
    assert again.returncode == 0
    assert json.loads(checkout.home.demo.read_text())["api_key"] in again.stdout
    assert set(ours(checkout.home)) == before


def test_doctor_finds_nothing_to_mend(checkout: Checkout) -> None:
    env = {**checkout.env, "PARLEY_HOME": str(checkout.home.path)}
    command = [".venv/bin/python", "manage.py", "doctor"]
    # Nothing waits for the first signs of life of beat and layouts.
    for _ in range(10):
        said = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout
        if {line[:4].strip() for line in said.stdout.splitlines()} == {"ok"}:
            return
    pytest.fail(said.stdout)


def test_down_leaves_no_process_behind(checkout: Checkout) -> None:
    down = checkout.make("down")
    assert (down.returncode, down.stdout) == (0, "Parley has stopped.\n")
    assert ours(checkout.home) == []


def test_ctrl_c_leaves_no_process_behind_and_the_data_in_place(checkout: Checkout) -> None:
    key = json.loads(checkout.home.demo.read_text())["api_key"]
    with subprocess.Popen(checkout.command("up"), cwd=ROOT, env=checkout.env, start_new_session=True) as terminal:
        checkout.until_ready(terminal)
        assert json.loads(checkout.home.demo.read_text())["api_key"] == key
        assert checkout.search("how do I start it?")
        os.killpg(terminal.pid, signal.SIGINT)  # what a terminal does
        terminal.wait(60)
    assert ours(checkout.home) == []


def test_a_killed_supervisor_is_swept_up(checkout: Checkout) -> None:
    assert checkout.make("up", "DETACH=1").returncode == 0
    os.kill(int((checkout.home.run / "lock").read_text()), signal.SIGKILL)
    checkout.make("down")
    assert ours(checkout.home) == []
