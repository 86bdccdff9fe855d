"""Runs the README's blocks in order in one shell, as a newcomer would, and keeps what each of them printed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local.home import Home, free_port
from local.processes import sweep
from tests.environment import ENVIRONMENT, ROOT
from tests.pages.blocks import Block
from tests.pages.walk import walk

SECONDS = 900.0


@dataclass(frozen=True)
class Walk:
    """What each heading's blocks printed, one after the other; `failed` are the blocks that ended with an error."""

    home: Home
    base_url: str
    printed: dict[str, list[str]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


@contextmanager
def walked(blocks: list[Block]) -> Iterator[Walk]:
    """Run the blocks on a home and a port of their own; nothing of them is left afterwards."""
    # Not pytest's own directory: it closes that to others, and PostgreSQL runs as another user when we are root.
    home = Home(Path(tempfile.mkdtemp(prefix="parley-readme-")))
    port = free_port()
    # A newcomer's shell knows nothing of the environment that tests run in.
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    environment |= {"PARLEY_HOME": str(home.path), "PORT": str(port), "DETACH": "1"}
    done = Walk(home, f"http://127.0.0.1:{port}")
    try:
        outcomes = walk(blocks, ROOT, environment, scripts=home.path, seconds=SECONDS)
        for block, (printed, ended_well) in zip(blocks, outcomes, strict=True):
            done.printed.setdefault(block.heading, []).append(printed)
            if not ended_well:
                done.failed.append(f"{block.text}{printed}")
        yield done
    finally:
        sweep(home)
        shutil.rmtree(home.path)
