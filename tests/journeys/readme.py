"""Runs the README's shell blocks in order in one shell, as a newcomer would, and keeps what each of them printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local.home import Home, free_port
from local.processes import sweep
from tests.environment import ENVIRONMENT, ROOT

# The suite that runs this cannot run itself.
NOT_RUN = ("make test\n",)
SECONDS = 500.0
_FENCE = re.compile(r"^```sh\n(.*?)^```$|^(#+) ([^\n]+)$", re.MULTILINE | re.DOTALL)
_MARK = "=====8<=====", "=====>8====="


@dataclass(frozen=True)
class Block:
    heading: str
    commands: str


@dataclass(frozen=True)
class Walk:
    """What each heading's blocks printed, one after the other; `failed` are the blocks that ended with an error."""

    home: Home
    base_url: str
    printed: dict[str, list[str]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def blocks(markdown: str) -> list[Block]:
    """The fenced `sh` blocks, each with the heading that it stands under."""
    found, heading = [], ""
    for match in _FENCE.finditer(markdown):
        if match[3]:
            heading = match[3]
        else:
            found.append(Block(heading, match[1]))
    return found


@contextmanager
def walked(steps: list[Block]) -> Iterator[Walk]:
    """Run the blocks on a home and a port of their own; nothing of them is left afterwards."""
    # Not pytest's own directory: it closes that to others, and PostgreSQL runs as another user when we are root.
    home = Home(Path(tempfile.mkdtemp(prefix="parley-readme-")))
    port = free_port()
    # A newcomer's shell knows nothing of the environment that tests run in.
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    environment |= {"PARLEY_HOME": str(home.path), "PORT": str(port), "DETACH": "1"}
    try:
        yield _run(steps, Walk(home, f"http://127.0.0.1:{port}"), environment)
    finally:
        sweep(home)
        shutil.rmtree(home.path)


def _run(steps: list[Block], walk: Walk, environment: dict[str, str]) -> Walk:
    opens, closes = _MARK
    # A shell of a reader goes on after an error, and so does this one: what failed is told by its block's status.
    script = "\n".join(f"echo '{opens}'\n{step.commands}\necho \"{closes} $?\"" for step in steps)
    file = walk.home.path / "walk.sh"
    file.write_text(script)
    said = subprocess.run(
        ["bash", str(file)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    ).stdout
    outputs = re.findall(rf"{opens}\n(.*?){closes} (\d+)\n", said, re.DOTALL)
    assert len(outputs) == len(steps), said
    for step, (output, status) in zip(steps, outputs, strict=True):
        walk.printed.setdefault(step.heading, []).append(output)
        if status != "0":
            walk.failed.append(f"{step.commands}{output}")
    return walk
