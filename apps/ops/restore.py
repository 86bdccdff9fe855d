"""Brings a backup back into an empty instance, once everything about it proved right; till then nothing is touched."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import psycopg
from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import DatabaseError, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from apps.ops import instance
from apps.ops.archive import BLOCK, Archive, BackupError

FILES = "files/"


def restore_backup(path: Path, *, other_secrets: bool = False) -> dict[str, Any]:
    """Restore, and return the backup's manifest. `other_secrets` accepts that keys or credentials will be lost.

    Raises BackupError, and leaves the instance as empty as it was.
    """
    try:
        archive = Archive(path)
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}.") from error
    connection = instance.owner()
    try:
        _fill(archive, other_secrets=other_secrets)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    except (DatabaseError, psycopg.Error) as error:
        raise BackupError(f"PostgreSQL refuses the backup: {str(error).strip().splitlines()[0]}.") from error
    finally:
        archive.close()
        connection.close()
    return archive.manifest


# --- What must be right -----------------------------------------------------------------------------------------------


def check(manifest: dict[str, Any], cursor: CursorWrapper, *, other_secrets: bool) -> None:
    """Whether this instance, which nobody else may change until the transaction ends, can take the backup.

    Raises BackupError.
    """
    if manifest["environment"] == "local" and not settings.LOCAL:
        raise BackupError(
            "The backup is of a local stack, whose demo and its credentials must not get into production."
        )
    _check_migrations(set(manifest["migrations"]), cursor)
    if not other_secrets:
        _check_secrets(manifest["secrets"])
    tables = {table.name: table.columns for table in instance.tables(cursor)}
    cursor.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.SQL(", ").join(map(sql.Identifier, tables))))
    filled = {part["name"].split("/")[1] for part in manifest["parts"] if not part["name"].startswith(FILES)}
    if tables != {name: table["columns"] for name, table in manifest["tables"].items()} or filled - tables.keys():
        raise BackupError("The backup's tables are not this instance's, although their migrations are alike.")
    for name in tables:
        if name not in instance.SEEDED and _has_rows(cursor, name):
            raise BackupError(f"This instance is not empty ({name} has rows): restore into a fresh database.")
    for part in manifest["parts"]:
        if part["name"].startswith(FILES) and _is_stored(part["name"].removeprefix(FILES)):
            raise BackupError(f"The storage is not empty: it holds {part['name'].removeprefix(FILES)} already.")


def _check_migrations(theirs: set[str], cursor: CursorWrapper) -> None:
    ours = set(instance.migrations(cursor))
    if missing := sorted(theirs - ours):
        raise BackupError(
            f"The backup is newer than this instance, which lacks {_some(missing)}: install the Parley that made it"
            " and run manage.py setup_database."
        )
    if unknown := sorted(ours - theirs):
        raise BackupError(
            f"The backup is older than this instance, which also has {_some(unknown)}: restore it with the Parley that"
            " made it, and upgrade then."
        )


def _check_secrets(theirs: dict[str, Any]) -> None:
    ours = instance.secrets()
    if theirs["pepper"] != ours["pepper"]:
        raise BackupError(
            "PARLEY_KEY_PEPPER is not the one of the backup, so none of its API keys would be valid. Set the right one,"
            " or accept the loss with --other-secrets."
        )
    if not set(theirs["encryption_keys"]) <= set(ours["encryption_keys"]):
        raise BackupError(
            "PARLEY_ENCRYPTION_KEYS lacks a key of the backup, whose stored credentials could not be read. Add it, or"
            " accept the loss with --other-secrets."
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more migrations" if len(names) > 3 else "")


def _has_rows(cursor: CursorWrapper, table: str) -> bool:
    cursor.execute(sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(sql.Identifier(table)))
    return bool(cursor.fetchone()[0])


def _is_stored(name: str) -> bool:
    try:
        return default_storage.exists(name)
    except SuspiciousOperation as error:
        raise BackupError(f"The backup holds a file {name!r}, which leads out of the storage.") from error


# --- Filling ----------------------------------------------------------------------------------------------------------


def _fill(archive: Archive, *, other_secrets: bool) -> None:
    """Rows in one transaction; files as they come, and away again where anything fails."""
    saved: list[str] = []
    loaded = dict.fromkeys(archive.manifest["tables"], 0)
    complete = False
    try:
        with transaction.atomic(using=instance.OWNER), instance.owner().cursor() as cursor:
            instance.write_alike(cursor)
            check(archive.manifest, cursor, other_secrets=other_secrets)
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
            protected = _set_aside_protection(cursor)
            for table in reversed(instance.SEEDED):
                cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            for name, content in archive.parts():
                if name.startswith(FILES):
                    saved.append(_save(name.removeprefix(FILES), content))
                else:
                    table = name.split("/")[1]
                    loaded[table] += _load(cursor, table, archive.manifest["tables"][table]["columns"], content)
            _check_rows(archive.manifest, loaded)
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # no table is altered while checks of its rows wait
            _alter(cursor, protected, "FORCE ROW LEVEL SECURITY")
            for sequence, last in archive.manifest["sequences"].items():
                cursor.execute("SELECT setval(%s::regclass, %s)", [sql.Identifier(sequence).as_string(), last])
        complete = True
    except OSError as error:
        raise BackupError(f"The storage cannot be filled: {error.strerror or error}.") from error
    finally:
        for name in saved if not complete else ():
            default_storage.delete(name)


def _set_aside_protection(cursor: CursorWrapper) -> list[str]:
    """Let the owner COPY into the tables that row-level security would not let it; which ones. Nobody sees it: they are
    locked until the transaction, which must put it back, has ended."""
    cursor.execute("SELECT relname FROM pg_class WHERE relforcerowsecurity AND relnamespace = 'public'::regnamespace")
    tables = [name for (name,) in cursor.fetchall()]
    _alter(cursor, tables, "NO FORCE ROW LEVEL SECURITY")
    return tables


def _alter(cursor: CursorWrapper, tables: list[str], how: str) -> None:
    for name in tables:
        cursor.execute(sql.SQL("ALTER TABLE {} {}").format(sql.Identifier(name), sql.SQL(how)))


def _save(name: str, content: IO[bytes]) -> str:
    stored = default_storage.save(name, File(content, name=name))
    if stored != name:
        default_storage.delete(stored)
        raise BackupError(f"The storage would not keep {name} under its name.")
    return stored


def _load(cursor: CursorWrapper, table: str, columns: list[str], content: IO[bytes]) -> int:
    """How many rows PostgreSQL took."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with cursor.copy(statement) as copy:
        while block := content.read(BLOCK):
            copy.write(block)
    return int(cursor.rowcount)


def _check_rows(manifest: dict[str, Any], loaded: dict[str, int]) -> None:
    for table, rows in loaded.items():
        if rows != manifest["tables"][table]["rows"]:
            raise BackupError(f"{table} came out with {rows} rows instead of {manifest['tables'][table]['rows']}.")
