"""Migrates a copy of the database, and notes what others would have felt of it.

How long which tables were locked, which statements read or wrote all of a table, and whether the release before could
have gone on beside it (beside.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from psycopg.conninfo import conninfo_to_dict

from apps.ops import beside
from apps.ops.lock_watch import MODES, Lock, LockWatch

OWNER = "owner"
_NAMES = {"HOST": "host", "PORT": "port", "NAME": "dbname", "USER": "user", "PASSWORD": "password"}
STATEMENT_CHARS = 120

# A server's start and a database's name say which database it is, by whatever address it was reached.
_IDENTITY = "SELECT pg_postmaster_start_time(), current_database()"
# What this session read has not been added up yet while its transaction goes on. A file is another one once all rows
# were written anew.
_TABLES = """
    SELECT c.relname, pg_stat_get_tuples_returned(c.oid) + pg_stat_get_xact_tuples_returned(c.oid),
        pg_relation_filenode(c.oid)
    FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
"""
_FRESH = "SET stats_fetch_consistency = none"

Tables = dict[str, tuple[int, int]]  # by name: rows that this session has read of it, and its file


class RehearsalError(Exception):
    """It cannot begin, or a migration failed; the message is for whoever rehearses."""


@dataclass(frozen=True)
class Held:
    """seconds: the longest time without a break."""

    table: str
    mode: str
    seconds: float


@dataclass(frozen=True)
class Passed:
    """A statement that went through a table. rows: those that it read, one after the other; rewrote: each of them."""

    table: str
    rows: int
    rewrote: bool
    statement: str


@dataclass
class Rehearsed:
    """hindrances: why the release before could not work beside it, by the linter. reason: why it could nevertheless."""

    migration: str
    seconds: float = 0.0
    locks: list[Held] = field(default_factory=list)
    passes: list[Passed] = field(default_factory=list)
    hindrances: list[str] = field(default_factory=list)
    reason: str = ""


@contextmanager
def copy_at(url: str) -> Iterator[BaseDatabaseWrapper]:
    """A connection to the copy, which takes the owner's place meanwhile. Raises RehearsalError where it is no copy."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise RehearsalError("--on is not an address such as postgres://owner:password@host:5432/copy.") from error
    owner = connections[OWNER]
    copy = owner.copy()
    copy.settings_dict |= {key: parts.pop(name, "") for key, name in _NAMES.items()}
    copy.settings_dict["OPTIONS"] |= parts
    try:
        _refuse_the_live_one(copy)
        connections[OWNER] = copy
        yield copy
    finally:
        copy.close()
        connections[OWNER] = owner


def _refuse_the_live_one(copy: BaseDatabaseWrapper) -> None:
    try:
        ours = _row(copy, _IDENTITY)
    except Error as error:
        raise RehearsalError(f"The copy does not answer: {_first_line(error)}") from error
    for alias in connections:
        try:
            theirs = _row(connections[alias], _IDENTITY)
        except Error as error:
            told = f"Whether the copy is the live database cannot be told: {_first_line(error)}"
            raise RehearsalError(told) from error
        if ours == theirs:
            raise RehearsalError("--on leads to the live database. Rehearse on a copy of it.")


def _row(connection: BaseDatabaseWrapper, query: str) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return tuple(cursor.fetchone())


def _first_line(error: Error) -> str:
    return str(error).strip().splitlines()[0]


def rehearse(connection: BaseDatabaseWrapper, done: Callable[[Rehearsed], None]) -> list[Rehearsed]:
    """Apply what is pending; done is told of each migration when it is applied. Raises RehearsalError."""
    executor = MigrationExecutor(connection)
    targets = executor.loader.graph.leaf_nodes()
    with connection.cursor() as cursor:
        cursor.execute(_FRESH)
    # Not through Django, whose connections are of one thread.
    parameters = connection.get_connection_params()
    raw: psycopg.Connection[Any] = connection.connection
    with LockWatch(lambda: psycopg.connect(**parameters), raw.info.backend_pid) as watch:
        notes = _Notes(raw, watch, done)
        executor.progress_callback = notes.progress
        with connection.execute_wrapper(notes.statement):
            try:
                executor.migrate(targets)
            except Error as error:
                raise RehearsalError(f"{notes.current.migration} failed: {_first_line(error)}") from error
    return notes.all


class _Notes:
    """What is written down while the migrations run."""

    def __init__(self, raw: psycopg.Connection[Any], watch: LockWatch, done: Callable[[Rehearsed], None]) -> None:
        self.all: list[Rehearsed] = []
        self._raw = raw
        self._watch = watch
        self._done = done
        self._begun = 0.0
        self._is_applying = False
        self._statements: list[str] = []
        self._tables: Tables = {}
        self._known: set[str] = set()  # tables that the migration has not made

    @property
    def current(self) -> Rehearsed:
        return self.all[-1]

    def progress(self, action: str, migration: Migration | None = None, fake: bool | None = None) -> None:
        if action == "apply_start" and migration:
            self._watch.taken()  # of what is no migration
            self.all.append(Rehearsed(f"{migration.app_label}.{migration.name}"))
            self._statements = []
            self._tables = self._look()
            self._known = set(self._tables)
            self._begun = time.monotonic()
            self._is_applying = True
        if action == "apply_success" and migration:
            self._is_applying = False
            self.current.locks = _held(self._watch.taken())
            self.current.seconds = time.monotonic() - self._begun  # no less than a lock is told to have taken
            self.current.hindrances = beside.hindrances(migration, self._statements)
            self.current.reason = beside.reason(migration)
            self._done(self.current)

    def statement(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        result = execute(sql, params, many, context)
        if self._is_applying:
            self._watch.look()
            self._statements.append(str(sql))
            before, self._tables = self._tables, self._look()
            for name in sorted(self._known & before.keys() & self._tables.keys()):
                self.current.passes += _passed(name, before[name], self._tables[name], str(sql))
        return result

    def _look(self) -> Tables:
        return {name: (read, file) for name, read, file in self._raw.execute(_TABLES)}


def _held(taken: Mapping[Lock, float]) -> list[Held]:
    """The longest first. A lock beside which the table had a stronger one all the time stopped nobody further."""
    locks = sorted(taken.items(), key=lambda lock: (-lock[1], -MODES.index(lock[0][1])))
    kept: dict[str, list[Held]] = {}
    for (table, mode), seconds in locks:
        of_table = kept.setdefault(table, [])
        if all(MODES.index(mode) > MODES.index(stronger.mode) for stronger in of_table):
            of_table.append(Held(table, mode, seconds))
    return sorted((one for of_table in kept.values() for one in of_table), key=lambda one: -one.seconds)


def _passed(table: str, before: tuple[int, int], after: tuple[int, int], statement: str) -> Iterator[Passed]:
    told = " ".join(statement.split())
    told = f"{told[: STATEMENT_CHARS - 1]}…" if len(told) > STATEMENT_CHARS else told
    rows, rewrote = after[0] - before[0], after[1] != before[1]
    if rows or rewrote:
        yield Passed(table, rows, rewrote, told)
