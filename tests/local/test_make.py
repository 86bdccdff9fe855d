"""What a person meets at the terminal: the targets exist, and what is wrong is said in one sentence."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import ROOT

Result = subprocess.CompletedProcess[str]


def local(*arguments: str) -> Result:
    return subprocess.run(
        [sys.executable, "-m", "local", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def sentence(result: Result) -> str:
    """What was said about a failure: one line, and no traceback."""
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    return line


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    named = {(page.name, name) for page in pages for name in re.findall(r"(?m)(?:^|`)make ([a-z]+)", page.read_text())}
    assert ("CONTRIBUTING.md", "check") in named
    assert {(page, name) for page, name in named if name not in targets} == set()


def test_help_lists_every_target() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("help", "up", "down", "check", "test", "bench", "lock"):
        assert re.search(rf"(?m)^  make {target} +\S", said)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = sentence(local("up", "--home", str(tmp_path), "--port", str(port)))
    assert said.startswith(f"Port {port} is taken by another program")


@pytest.mark.parametrize("port", ["0", "65536", "http", ""])
def test_a_wrong_port_is_refused(tmp_path: Path, port: str) -> None:
    result = local("up", "--home", str(tmp_path), "--port", port)
    assert sentence(result) == f"PORT must be a number from 1 to 65535, but is {port!r}."


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "var"
    home.write_text("")
    assert sentence(local("up", "--home", str(home))).startswith(f"{home} cannot hold Parley's data")


def test_a_damaged_env_file_is_refused_and_kept(tmp_path: Path) -> None:
    env = tmp_path / "env"
    env.write_text("SECRET_KEY=half of it\nLOCAL_OWNER_PASS")
    said = sentence(local("up", "--home", str(tmp_path), "--port", "18999"))
    assert "has lost PARLEY_KEY_PEPPER" in said
    assert "delete" in said
    assert env.read_text().startswith("SECRET_KEY=half of it")


def test_an_unknown_web_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_ASGI_SERVER", "apache")
    result = local("up", "--home", str(tmp_path), "--port", "18999")
    assert sentence(result) == "PARLEY_ASGI_SERVER must be daphne or uvicorn, but is 'apache'."


def test_down_with_nothing_running_says_so(tmp_path: Path) -> None:
    result = local("down", "--home", str(tmp_path))
    assert (result.returncode, result.stdout) == (0, "Nothing was running.\n")
