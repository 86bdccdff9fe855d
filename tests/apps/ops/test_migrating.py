"""Migrations of a database that is in use: one that is cut short can be repeated, none ends in a deadlock or waits for
ever, the release before can work beside each, and what one did can be taken back."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.conf import LazySettings, settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from apps.ops import beside
from apps.ops.rehearsal import copy_at
from tests.apps.ops.copies import copied
from tests.environment import ENVIRONMENT, Backends

keys = importlib.import_module("apps.knowledge.migrations.0021_vectors_with_two_keys")
once = importlib.import_module("apps.knowledge.migrations.0034_one_key_for_each_reference")
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


@pytest.mark.django_db(transaction=True, databases=["default", "owner", "operator"])
def test_one_that_comes_by_no_moment_alone_ends_with_a_sentence(servers: Backends, settings: LazySettings) -> None:
    settings.MIGRATION_MODULES = {"widget": "tests.apps.ops.migrations.stuck"}
    with owner() as worker, worker.transaction():
        worker.execute("LOCK TABLE widget_widget IN ROW EXCLUSIVE MODE")
        with pytest.raises(CommandError, match=r"^For 1 second somebody was at widget_widget\. Stop web, and migrate"):
            call_command("setup_database")


def waits(looking: psycopg.Connection[Any], pid: int) -> bool:
    return looking.execute("SELECT FROM pg_locks WHERE pid = %s AND NOT granted", [pid]).fetchone() is not None


# --- The release before -----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_the_release_before_can_work_beside_each() -> None:
    """Or apps.ops.beside says why what django-migration-linter has against one does no harm."""
    loader = MigrationLoader(None)
    # Those of other packages are theirs to judge.
    known = [*beside.BASELINE.items(), *(leaf for leaf in loader.graph.leaf_nodes() if leaf[0] not in beside.BASELINE)]
    state = loader.project_state(known)
    before = loader.graph._generate_plan(known, at_end=True)
    hindered = set()
    for key in loader.graph._generate_plan(loader.graph.leaf_nodes(), at_end=True):
        if key in before:
            continue
        migration = loader.get_migration(*key)
        with connections["owner"].schema_editor(collect_sql=True, atomic=migration.atomic) as editor:
            state = migration.apply(state, editor, collect_sql=True)
        if beside.hindrances(migration, editor.collected_sql):
            hindered.add(key)
    assert hindered == set(beside.EXCEPTIONS)


# --- Back and forth ---------------------------------------------------------------------------------------------------

DOUBLED = """
    ALTER TABLE knowledge_upload ADD CONSTRAINT upload_doubled FOREIGN KEY (collection_id)
        REFERENCES knowledge_collection DEFERRABLE INITIALLY DEFERRED;
    ALTER TABLE knowledge_layout ADD CONSTRAINT layout_doubled FOREIGN KEY (index_id)
        REFERENCES knowledge_embeddingindex DEFERRABLE INITIALLY DEFERRED
"""
BEFORE = (("knowledge", "0015_judgements"), ("conversations", "0011_story"), ("usage", "0009_ingestion"))
# The operators' are setup_database's, and others the tests'.
POLICIES = """
    SELECT tablename, policyname, roles, cmd, qual, with_check FROM pg_policies
    WHERE policyname IN ('tenant', 'maintenance', 'search') ORDER BY 1, 2
"""
COLUMNS = """
    SELECT table_name, column_name, data_type, column_default, is_nullable, generation_expression
    FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2
"""
FUNCTIONS = """
    SELECT oid::regprocedure::text, proowner::regrole::text, prosrc FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace ORDER BY 1
"""
TRIGGERS = """
    SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2
"""
SCHEMA = (CONSTRAINTS, INDEXES, POLICIES, COLUMNS, FUNCTIONS, TRIGGERS)


@pytest.mark.django_db(transaction=True, databases=["default", "owner", "operator"])
def test_they_go_back_and_forth(servers: Backends) -> None:
    """Also where an older database has keys twice, which are then there once."""
    with copied() as copy, copy_at(copy.url) as connection:

        def migrate(*targets: tuple[str, str]) -> None:
            executor = MigrationExecutor(connection)
            executor.migrate([*targets] or executor.loader.graph.leaf_nodes())

        def schema() -> list[list[Any]]:
            return [copy.superuser.execute(query).fetchall() for query in SCHEMA]

        before = schema()
        copy.superuser.execute(DOUBLED)
        migrate(*BEFORE)
        migrate()
        assert schema() == before
        copy.superuser.execute(DOUBLED)
        copy.superuser.execute(once.DROP)
        assert schema() == before
