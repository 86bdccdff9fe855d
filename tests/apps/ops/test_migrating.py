"""Migrations of a database that is in use: one that is cut short can be repeated, and none ends in a deadlock."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from local import postgres
from local.home import free_port
from local.processes import stop
from tests.environment import HOME, ROOT, database_url, seed, start_postgres

keys = importlib.import_module("apps.knowledge.migrations.0021_vectors_with_two_keys")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a migrated cluster that nobody else is at."""
    data, port = HOME / "migrating", free_port()
    HOME.chmod(0o711)  # PostgreSQL runs as another user when we are root
    subprocess.run(["cp", "--archive", str(seed()), str(data)], check=True)
    process = start_postgres(data, port, HOME / "migrating.log")
    yield port
    stop(process, signal.SIGQUIT)


def owner(port: int) -> psycopg.Connection[Any]:
    return psycopg.connect(database_url(postgres.OWNER, port), autocommit=True)


def test_whoever_is_cut_short_begins_anew(port: int) -> None:
    environment = {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PYTHONWARNINGS": "ignore",
        "DATABASE_URL": database_url(postgres.APP, port),
        "OWNER_DATABASE_URL": database_url(postgres.OWNER, port),
        "OPERATOR_DATABASE_URL": database_url(postgres.OPERATOR, port),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.apps.ops.interrupted", "0017"],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "knowledge.0021_vectors_with_two_keys" in done.stdout.splitlines()


@pytest.mark.parametrize("tables", [("chunk", "embedding"), ("embedding", "chunk")])
@pytest.mark.parametrize("number", [0, len(keys.ADD) + len(keys.VALIDATE)], ids=["new keys", "old keys"])
def test_vectors_get_other_keys_in_the_midst_of_work(port: int, tables: tuple[str, str], number: int) -> None:
    """Whoever asks for passages and vectors, in whatever order, meets the migration, and both come to their end."""
    statement = keys.Migration.operations[number].sql
    with owner(port) as worker, owner(port) as migrating, owner(port) as looking, ThreadPoolExecutor(1) as pool:
        for added in keys.ADD:
            migrating.execute(added)
        with worker.transaction():
            worker.execute(f"LOCK TABLE knowledge_{tables[0]} IN ROW EXCLUSIVE MODE")
            migrated = pool.submit(migrating.execute, statement)
            while not waits(looking, migrating.info.backend_pid):
                assert not migrated.done(), migrated.exception()
                time.sleep(0.01)
            worker.execute(f"LOCK TABLE knowledge_{tables[1]} IN ROW EXCLUSIVE MODE")
        migrated.result(60)


def waits(looking: psycopg.Connection[Any], pid: int) -> bool:
    return bool(looking.execute("SELECT FROM pg_locks WHERE pid = %s AND NOT granted", [pid]).fetchone())
