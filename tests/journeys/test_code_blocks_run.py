"""The code blocks of docs/ and CONTRIBUTING.md do what their pages say, on a running product with scripted models."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.environment import HOME, ROOT, Backends
from tests.fakes.inference import DIMENSION
from tests.journeys.conftest import Model, web_process, worker_process
from tests.pages.blocks import PAGES, Block, blocks_of
from tests.pages.shapes import MORE, differences, values_in, whole_values_in
from tests.pages.walk import walk

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

SECONDS = 240.0  # for one page
# The README starts the product by itself: tests/journeys/test_readme.py.
BLOCKS = [block for page in PAGES if page.name != "README.md" for block in blocks_of(page)]
Outcome = tuple[str, bool]


@dataclass(frozen=True)
class Demo:
    """The demo that `make up` makes, on the test's own database."""

    base_url: str
    key: str


@pytest.fixture(scope="module")
def demo(servers: Backends, django_db_setup: None, model: Model) -> Iterator[Demo]:
    with web_process("daphne") as base_url, worker_process():
        environment = {
            **os.environ,
            "PARLEY_BASE_URL": base_url,
            "DEMO_CHAT_URL": model.base_url,
            "DEMO_CHAT_MODEL": "scripted",
            "DEMO_EMBEDDING_URL": model.base_url,
            "DEMO_EMBEDDING_MODEL": "scripted",
            "DEMO_EMBEDDING_DIMENSION": str(DIMENSION),
        }
        create = [sys.executable, "manage.py", "create_demo"]
        for command in (create, [*create, "--wait"]):
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
        yield Demo(base_url, json.loads((HOME / "demo.json").read_text())["api_key"])
    (HOME / "demo.json").unlink()
    servers.empty_database()
    servers.empty_redis()


@pytest.fixture(scope="module")
def outcomes(demo: Demo) -> dict[Path, dict[int, Outcome]]:
    """Of each page its blocks' outcomes, by line; a page is walked when it is first asked for."""
    return {}


@pytest.fixture
def outcome_of(demo: Demo, outcomes: dict[Path, dict[int, Outcome]], tmp_path: Path) -> Any:
    def outcome(block: Block) -> Outcome:
        if block.page not in outcomes:
            runnable = [each for each in BLOCKS if each.page == block.page and each.runs]
            told = _walk(runnable, demo, tmp_path)
            outcomes[block.page] = {each.line: ended for each, ended in zip(runnable, told, strict=True)}
        return outcomes[block.page][block.line]

    return outcome


def _walk(blocks: list[Block], demo: Demo, scratch: Path) -> list[Outcome]:
    """In a directory that looks like a checkout, with `make up` running, and whose files are its own."""
    checkout, scripts = scratch / "checkout", scratch / "scripts"
    checkout.mkdir()
    scripts.mkdir()
    for entry in [ROOT / ".venv", *(ROOT / name for name in _tracked())]:
        (checkout / entry.name).symlink_to(entry)
    (checkout / "var").symlink_to(HOME)
    address = demo.base_url.removeprefix("http://")
    environment = {**os.environ, "URL": demo.base_url, "KEY": demo.key, "PARLEY_BASE_URL": demo.base_url}
    values = {"127.0.0.1:8000": address, "localhost:8000": address, "parley_…": demo.key}
    return walk(blocks, checkout, environment, scripts=scripts, seconds=SECONDS, values=values)


def _tracked() -> set[str]:
    """What a checkout has in its first directory."""
    return {path.name for path in ROOT.iterdir() if not path.name.startswith(".") and path.name != "var"}


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("sh", "python", "js")], ids=str)
def test_a_block_runs(block: Block, request: pytest.FixtureRequest) -> None:
    if reason := block.marks.get("not run"):
        pytest.skip(reason)
    if test := block.marks.get("checked by"):
        pytest.skip(f"checked by {test}")
    if block.language == "js" and not shutil.which("node"):
        pytest.skip("needs Node.js")
    printed, ended_well = request.getfixturevalue("outcome_of")(block)
    assert ended_well is ("fails" not in block.marks), printed


def _check_json(shown: str, printed: str) -> None:
    said = values_in(printed)
    assert said, f"No JSON was printed: {printed}"
    for value in whole_values_in(shown):
        assert min((list(differences(value, other)) for other in said), key=len) == []


def _check_text(shown: str, printed: str) -> None:
    pattern = ".*".join(re.escape(part) for part in shown.strip().split(MORE))
    assert re.search(rf"^{pattern}$", printed, re.MULTILINE | re.DOTALL), printed


def _check_events(shown: str, printed: str) -> None:
    names = re.compile(r"^event: (\S+)$", re.MULTILINE)
    assert set(names.findall(shown)) <= set(names.findall(printed)), printed


_CHECKS = {"json": _check_json, "text": _check_text, "http": _check_events}


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.follows and block.follows.runs and block.language in _CHECKS],
    ids=str,
)
def test_what_is_shown_is_what_the_block_before_prints(block: Block, outcome_of: Any) -> None:
    assert block.follows is not None
    printed, _ = outcome_of(block.follows)
    _CHECKS[block.language](block.text, printed)
