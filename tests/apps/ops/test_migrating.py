"""Migrations of a database that is in use: one that is cut short can be repeated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from tests.environment import Backends

CONSTRAINTS = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint ORDER BY 1, 2"
INDEXES = "SELECT indexdef FROM pg_indexes ORDER BY 1"


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
