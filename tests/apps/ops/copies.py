"""A PostgreSQL of its own, migrated, whose database a test may migrate back and forth."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from local import postgres
from local.home import free_port
from local.processes import stop
from tests.environment import HOME, PASSWORDS, seed, start_postgres

SEED = HOME / "copied-postgres"


@dataclass(frozen=True)
class Copy:
    """superuser: a connection in autocommit. url: as the owner of the tables."""

    superuser: psycopg.Connection[Any]
    url: str


@contextmanager
def copied() -> Iterator[Copy]:
    subprocess.run(["cp", "--archive", str(seed()), str(SEED)], check=True)
    port = free_port()
    process = start_postgres(SEED, port, HOME / "copied-postgres.log")
    try:
        with postgres.connect(port, PASSWORDS[postgres.SUPERUSER], postgres.DATABASE) as superuser:
            login = f"{postgres.OWNER}:{PASSWORDS[postgres.OWNER]}"
            yield Copy(superuser, f"postgres://{login}@127.0.0.1:{port}/{postgres.DATABASE}")
    finally:
        stop(process, signal.SIGQUIT)
        shutil.rmtree(SEED)
