"""deploy/bluegreen by itself: whom it sends requests to, and what stays as it was where it refuses.
tests/faults/test_03_deploy.py switches real web processes under streams."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local.home import free_port
from tests.deploy.proxy import Backend, Proxy, backend, directory, nginx
from tests.environment import ROOT

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx: apt-get install nginx")

SCRIPT = ROOT / "deploy" / "bluegreen"


@pytest.fixture
def blue() -> Iterator[Backend]:
    with backend() as server:
        yield server


@pytest.fixture
def green() -> Iterator[Backend]:
    """It answers everything by 200, as a process would that lets everybody in."""
    with backend() as server:
        yield server


@pytest.fixture
def upstream() -> Iterator[Path]:
    with directory() as readable:
        yield readable / "upstream.conf"


@pytest.fixture
def proxy(blue: Backend, upstream: Path) -> Iterator[Proxy]:
    upstream.write_text(f"server {blue.address};\n")
    with nginx("127.0.0.1:9", NGINX_UPSTREAM_FILE=str(upstream)) as started:
        yield started


class Host:
    """Where the script is run, and what it did: each command writes a line."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.done = home / "done"
        self.environment = {
            **os.environ,
            "START": f"echo start {{colour}} {{port}} >> {self.done}",
            "STOP": f"echo stop {{colour}} {{port}} >> {self.done}",
            "HOST_NAME": "127.0.0.1",
            "READY_SECONDS": "1",
            **settings,
        }

    def run(self, deed: str, **settings: str) -> subprocess.CompletedProcess[str]:
        env = {**self.environment, **settings}
        return subprocess.run([SCRIPT, deed], env=env, capture_output=True, text=True, check=False)

    @property
    def deeds(self) -> list[str]:
        return [line.rpartition(" ")[0] for line in self.done.read_text().splitlines()]


@pytest.fixture
def host(tmp_path: Path, proxy: Proxy, upstream: Path, blue: Backend, green: Backend) -> Host:
    places = {"NGINX_HOME": str(proxy.home), "NGINX_UPSTREAM_FILE": str(upstream)}
    return Host(tmp_path, BLUE=blue.address, GREEN=green.address, **places)


def test_a_rollback_switches_and_ends_the_other_one_afterwards(
    host: Host, proxy: Proxy, blue: Backend, green: Backend
) -> None:
    assert host.run("status").stdout == "blue is live.\n"
    for live, other in ((green, "blue"), (blue, "green")) * 2:
        done = host.run("rollback")
        assert done.returncode == 0, done.stderr
        before = len(live.requests)
        for _ in range(20):  # nginx's old workers accept for a moment beside the new ones
            httpx.get(f"{proxy.url}/api/v1/assistants").raise_for_status()
        assert len(live.requests) == before + 20
        assert host.deeds[-1] == f"stop {other}"
    assert host.deeds == ["start green", "stop blue", "start blue", "stop green"] * 2


def test_what_was_switched_stays_so_when_nginx_starts_again(
    host: Host, upstream: Path, green: Backend, blue: Backend
) -> None:
    assert host.run("rollback").returncode == 0
    with nginx(blue.address, NGINX_UPSTREAM_FILE=str(upstream)) as again:
        httpx.get(f"{again.url}/who").raise_for_status()
    assert green.requests[-1].startswith(b"GET /who")


def test_without_a_file_nginx_begins_with_the_addresses_that_it_is_given(upstream: Path, blue: Backend) -> None:
    with nginx(blue.address, NGINX_UPSTREAM_FILE=str(upstream)) as started:
        httpx.get(started.url).raise_for_status()
    assert upstream.read_text() == f"server {blue.address}  max_fails=2 fail_timeout=5s;\n"


def refused(host: Host, upstream: Path, sentence: str, deed: str = "deploy", **settings: str) -> None:
    """The script says why, stops what it started, and leaves nginx as it is."""
    before = upstream.read_text()
    done = host.run(deed, **settings)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert upstream.read_text() == before
    assert host.deeds == ["start green", "stop green"]


def test_one_that_answers_wrongly_is_not_switched_to(host: Host, upstream: Path) -> None:
    refused(host, upstream, "answered /api/v1/assistants by 200, not by 401")


def test_one_that_is_never_ready_is_not_switched_to(host: Host, upstream: Path) -> None:
    refused(host, upstream, "is not ready after 1 seconds (no answer)", GREEN=f"127.0.0.1:{free_port()}")


def test_nothing_is_switched_where_nginx_finds_fault(host: Host, upstream: Path, proxy: Proxy) -> None:
    (proxy.home / "conf" / "place" / "log.conf").write_text("nonsense;\n")
    refused(host, upstream, "nginx does not take the switch", deed="rollback")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"GREEN": ""}, "GREEN is not set"), ({"NGINX_UPSTREAM_FILE": ""}, "NGINX_UPSTREAM_FILE is not set")],
)
def test_a_missing_setting_stops_it_by_a_sentence(host: Host, settings: dict[str, str], sentence: str) -> None:
    done = host.run("deploy", **settings)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr


def test_a_file_may_hold_the_settings(host: Host, tmp_path: Path) -> None:
    kept = tmp_path / "bluegreen.env"
    kept.write_text("".join(f'{name}="{host.environment.pop(name)}"\n' for name in ("BLUE", "GREEN", "NGINX_HOME")))
    assert host.run("status", BLUEGREEN_FILE=str(kept)).stdout == "blue is live.\n"


def test_an_upstream_of_both_is_not_guessed_at(host: Host, upstream: Path, blue: Backend, green: Backend) -> None:
    upstream.write_text(f"server {blue.address};\nserver {green.address};\n")
    assert "neither colour, or of both" in host.run("deploy").stderr


def test_without_a_deed_it_tells_what_there_is(host: Host) -> None:
    done = host.run("")
    assert done.returncode == 2
    assert "rollback" in done.stdout
