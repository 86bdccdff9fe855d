""".github/workflows against the Makefile, .ci/run and deploy/: the same steps, and no program that is not there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
import yaml

from tests.environment import ROOT

FILE = ROOT / ".github" / "workflows" / "deliver.yml"
JOBS: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["jobs"]
CI = (ROOT / ".ci" / "run").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
SMOKE = ROOT / "deploy" / "smoke"


def runs(job: str) -> list[str]:
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def test_a_change_passes_what_ci_asks_and_is_then_delivered() -> None:
    assert list(JOBS) == ["check", "test", "images", "staging", "production"]
    asked = re.findall(r"^\s*(make [a-z]+.*)$", CI, re.MULTILINE)
    assert asked
    assert asked == [run for job in ("check", "test") for run in runs(job) if run.startswith("make ")]
    assert [JOBS[job].get("needs") for job in JOBS] == [None, None, ["check", "test"], "images", "staging"]


def test_every_step_is_one_of_make_or_a_program_that_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    text = "\n".join(run for job in JOBS for run in runs(job))
    assert set(re.findall(r"\bmake ([a-z]+)", text)) == {"check", "widget", "test", "images", "scan"} <= targets
    programs = set(re.findall(r"deploy/\w+", text))
    assert programs == {"deploy/release", "deploy/bluegreen", "deploy/smoke"}
    assert all(os.access(ROOT / program, os.X_OK) for program in programs)


def test_what_ci_installs_is_installed() -> None:
    """Its own machines bring curl, make, Node and Python along."""
    [line] = [run for run in runs("test") if "apt-get" in run]
    missing = set(re.findall(r"missing\+=\(([\w-]+)\)", CI)) - {"curl", "make", "nodejs", "python3-venv"}
    assert missing == set(line.partition("--no-install-recommends ")[2].split())


def test_images_are_those_that_were_scanned() -> None:
    made = runs("images")
    built = set(re.findall(r'"\$\(REGISTRY\)/([\w-]+):\$\(TAG\)" \.$', MAKEFILE, re.MULTILINE))
    assert built == set(re.findall(r"docker push \"\$REGISTRY/([\w-]+):", made[-1])) == {"parley", "parley-nginx"}
    assert [run.split()[1] for run in made[:2]] == ["images", "scan"]
    assert all("TAG=${{ github.sha }}" in run for run in made[:2])


def test_what_was_released_and_does_not_answer_is_taken_back() -> None:
    assert JOBS["staging"]["steps"] == JOBS["production"]["steps"]
    *_, release, smoke, back = JOBS["production"]["steps"]
    assert "deploy/release" in release["run"]
    assert "deploy/smoke" in smoke["run"]
    assert back["run"].endswith("deploy/bluegreen rollback")
    assert back["if"] == f"failure() && steps.{release['id']}.outcome == 'success'"


def test_secrets_reach_no_command_line_and_no_pull_request() -> None:
    for job in JOBS.values():
        for step in job["steps"]:
            assert "secrets." not in str(step.get("run", ""))
    for name in ("staging", "production"):
        assert JOBS[name]["if"] == "github.event_name == 'push'"
        assert JOBS[name]["environment"] == name


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_a_release_refuses_without_the_owner_and_without_a_revision() -> None:
    for arguments, said in (([], "Usage"), (["main"], "OWNER_DATABASE_URL")):
        env = {name: value for name, value in os.environ.items() if name != "OWNER_DATABASE_URL"}
        done = subprocess.run(
            [ROOT / "deploy" / "release", *arguments], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert said in done.stderr


# --- deploy/smoke -----------------------------------------------------------------------------------------------------

HEALTHY = {"/admin/login/": 200, "/api/schema": 200, "/api/v1/assistants": 401, "/metrics": 404, "/healthz/ready": 404}


class _Site(BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, int]] = {}
    spoken = b""
    keys: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.send_response(self.answers[self.path])
        self.end_headers()

    def do_POST(self) -> None:
        self.keys.append(self.headers["Authorization"])
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.spoken)

    def log_message(self, *_: object) -> None:
        """Not to the test's own output."""


@contextmanager
def site(spoken: bytes = b"", **answers: int) -> Iterator[str]:
    handler = type("Site", (_Site,), {"answers": HEALTHY | answers, "spoken": spoken})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def smoke(url: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SMOKE, url], env={**os.environ, **env}, capture_output=True, text=True, check=False)


def test_smoke_passes_what_answers_and_asks_with_a_key() -> None:
    with site(spoken=b'{"choices": [{"finish_reason": "stop"}]}') as url:
        assert smoke(url).returncode == 0
        done = smoke(url, KEY="parley_secret", ASSISTANT="guide")
    assert (done.returncode, done.stdout) == (0, f"{url} answers.\n")
    assert _Site.keys == ["Bearer parley_secret"]


@pytest.mark.parametrize("path", HEALTHY)
def test_smoke_names_what_answers_wrongly(path: str) -> None:
    with site(**{path: 500}) as url:
        done = smoke(url)
    assert (done.returncode, done.stderr) == (1, f"{path} answered 500, not {HEALTHY[path]}.\n")


def test_smoke_does_not_pass_an_error_for_an_answer() -> None:
    with site(spoken=b'{"error": {"code": "model_unavailable"}}') as url:
        done = smoke(url, KEY="parley_secret", ASSISTANT="guide")
    assert done.returncode == 1
    assert "model_unavailable" in done.stderr
