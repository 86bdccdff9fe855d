"""Writes everything that lasts into one file, from one snapshot of the database, while Parley runs."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.files.storage import default_storage
from django.db import DatabaseError, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone
from psycopg import sql

from apps.ops import instance
from apps.ops.archive import BackupError, Writer
from apps.ops.instance import Table

PART = 8 * 1024 * 1024  # bytes of rows that are held in memory at a time


@dataclass(frozen=True)
class Made:
    """missing: names of files that rows still named in the snapshot and that were gone when their turn came."""

    path: Path
    size: int
    rows: int
    files: int
    missing: list[str]


def write_backup(target: Path) -> Made:
    """Write the backup to `target`, or under a name with the time where that is a directory.

    The file appears when it is complete, readable by its owner alone. Raises BackupError.
    """
    path = target / f"parley-{timezone.now():%Y%m%dT%H%M%SZ}.tar" if target.is_dir() else target
    if path.exists():
        raise BackupError(f"{path} exists: name another file, or a directory.")
    partial = path.with_name(f"{path.name}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            rows, names, missing = _write(Writer(file))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (DatabaseError, psycopg.Error) as error:
        raise BackupError(f"PostgreSQL cannot be read: {str(error).strip().splitlines()[0]}.") from error
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return Made(path, path.stat().st_size, rows, names - len(missing), missing)


def _write(archive: Writer) -> tuple[int, int, list[str]]:
    connection = instance.owner()
    try:
        with transaction.atomic(using=instance.OWNER), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            instance.write_alike(cursor)
            manifest = _about(cursor)
            tables = instance.tables(cursor)
            manifest["tables"] = {table.name: _write_table(archive, cursor, table) for table in tables}
            # After the rows: a number that is skipped harms nobody, one that is given twice does.
            manifest["sequences"] = _sequences(cursor)
            names = list(_stored(cursor))
    finally:
        connection.close()
    # The snapshot need not stay open for this: no name is ever given to other bytes.
    manifest["missing"] = [name for name in names if not _write_file(archive, name)]
    archive.finish(manifest)
    return sum(table["rows"] for table in manifest["tables"].values()), len(names), manifest["missing"]


def _about(cursor: CursorWrapper) -> dict[str, Any]:
    cursor.execute("SELECT current_setting('server_version')")
    return {
        "parley": settings.VERSION,
        "environment": settings.PARLEY_ENV,
        "made": timezone.now().isoformat(),
        "postgres": cursor.fetchone()[0],
        "migrations": instance.migrations(cursor),
        "secrets": instance.secrets(),
    }


def _write_table(archive: Writer, cursor: CursorWrapper, table: Table) -> dict[str, Any]:
    statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
        sql.SQL(", ").join(map(sql.Identifier, table.columns)), sql.Identifier(table.name)
    )
    rows = number = 0
    part = bytearray()
    with cursor.copy(statement) as copy:
        for row in copy:
            part += row
            rows += 1
            if len(part) >= PART:
                number = _write_part(archive, table, number, part)
    if part:
        _write_part(archive, table, number, part)
    return {"columns": table.columns, "rows": rows}


def _write_part(archive: Writer, table: Table, number: int, part: bytearray) -> int:
    """Write the rows and empty `part`; the next part's number."""
    archive.add(f"tables/{table.name}/{number:06}.copy", io.BytesIO(part), len(part))
    part.clear()
    return number + 1


def _sequences(cursor: CursorWrapper) -> dict[str, int]:
    """The last number that each sequence gave, of those that gave one."""
    cursor.execute("SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1")
    return {name: last for name, last in cursor.fetchall() if last is not None}


def _stored(cursor: CursorWrapper) -> Iterator[str]:
    for table, column in instance.STORED:
        statement = sql.SQL("SELECT DISTINCT {0} FROM {1} WHERE {0} <> '' ORDER BY 1")
        cursor.execute(statement.format(sql.Identifier(column), sql.Identifier(table)))
        yield from (row[0] for row in cursor.fetchall())


def _write_file(archive: Writer, name: str) -> bool:
    """False where the file was deleted meanwhile."""
    try:
        size = default_storage.size(name)
        with default_storage.open(name) as content:
            archive.add(f"files/{name}", content, size)
    except FileNotFoundError:
        return False
    except SuspiciousOperation as error:
        raise BackupError(f"A row names a file {name!r}, which lies outside the storage.") from error
    return True
