"""Migrations of a database that is in use: one that is cut short can be repeated, and none ends in a deadlock."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from tests.environment import ENVIRONMENT, Backends

keys = importlib.import_module("apps.knowledge.migrations.0021_vectors_with_two_keys")
replaces = len(keys.ADD) + len(keys.VALIDATE)
CONSTRAINTS = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint ORDER BY 1, 2"
INDEXES = "SELECT indexdef FROM pg_indexes ORDER BY 1"


def owner() -> psycopg.Connection[Any]:
    options = settings.DATABASES["owner"]["OPTIONS"]["options"]
    return psycopg.connect(ENVIRONMENT["OWNER_DATABASE_URL"], autocommit=True, options=options)


@pytest.fixture
def same(servers: Backends) -> Iterator[None]:
    """What a migration is done with stays as it is, when it is done again."""
    read = servers.superuser.execute
    before = [read(CONSTRAINTS).fetchall(), read(INDEXES).fetchall()]
    yield
    assert [read(CONSTRAINTS).fetchall(), read(INDEXES).fetchall()] == before


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
@pytest.mark.parametrize("name", ["0021_vectors_with_two_keys", "0032_shares"])
def test_whoever_is_cut_short_begins_anew(same: None, name: str) -> None:
    """Of a migration that is no single transaction, all may be done and it not be written down."""
    loader = MigrationLoader(None)
    migration = loader.get_migration("knowledge", name)
    assert not migration.atomic
    with connections["owner"].schema_editor(atomic=False) as editor:
        migration.apply(loader.project_state(("knowledge", name), at_end=False), editor)


@pytest.mark.parametrize("tables", [("chunk", "embedding"), ("embedding", "chunk")])
@pytest.mark.parametrize("number", [0, replaces], ids=["new keys", "old keys"])
def test_vectors_get_other_keys_in_the_midst_of_work(same: None, tables: tuple[str, str], number: int) -> None:
    """Whoever asks for passages and vectors, in whatever order, meets the migration, and both come to their end."""
    statements = [operation.sql for operation in keys.Migration.operations[: replaces + 1]]
    with owner() as worker, owner() as migrating, owner() as looking, ThreadPoolExecutor(1) as pool:
        for statement in statements[:number]:
            migrating.execute(statement)
        with worker.transaction():
            worker.execute(f"LOCK TABLE knowledge_{tables[0]} IN ROW EXCLUSIVE MODE")
            migrated = pool.submit(migrating.execute, statements[number])
            while not waits(looking, migrating.info.backend_pid):
                assert not migrated.done(), migrated.exception()
                time.sleep(0.01)
            worker.execute(f"LOCK TABLE knowledge_{tables[1]} IN ROW EXCLUSIVE MODE")
        migrated.result(60)
        for statement in statements[number + 1 :]:
            migrating.execute(statement)


def waits(looking: psycopg.Connection[Any], pid: int) -> bool:
    return looking.execute("SELECT FROM pg_locks WHERE pid = %s AND NOT granted", [pid]).fetchone() is not None
