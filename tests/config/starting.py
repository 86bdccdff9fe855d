"""Loads the settings once for each environment given, and tells how each start ended.

    python -m tests.config.starting < environments.json

Reads a JSON list of environments and writes a JSON list of {"status", "said"}. Each start is a fork of a process that
has imported what the settings import, which takes most of a start's time.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import IO

from config import env

IMPORTED = ("django.conf", "django.http.request", "structlog", "psycopg")


def start(environment: dict[str, str], said: IO[str]) -> int:
    """The exit status of a process that loads the settings in `environment`; what it says goes to `said`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.dup2(said.fileno(), sys.stderr.fileno())
    os.environ.clear()
    os.environ.update(environment)
    env.ENV_FILE = Path("/nonexistent")
    settings = importlib.import_module("config.settings")
    sys.stderr.write(f"{settings.SECURE_SSL_REDIRECT}\n")
    sys.exit()  # and whatever else was raised ends this process as it ends any


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    results = []
    for environment in json.load(sys.stdin):
        with tempfile.TemporaryFile("w+") as said:
            status = start(environment, said)
            said.seek(0)
            results.append({"status": status, "said": said.read()})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
