"""Writes what a tenant has into a directory or a tar: its rows as lines of JSON, its files, and what that is.

    tables/<table>.jsonl    a row a line, as PostgreSQL writes it in JSON
    files/<name>            what the storage keeps under that name
    manifest.json           of when and whom, what was left out and why, and each part's size and SHA-256

Rows come from one snapshot, while everybody goes on working. No part is held in memory.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Protocol

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import DatabaseError, connection
from django.db.models import Model
from django.utils import timezone
from psycopg import sql

from apps.ops.archive import BLOCK, FORMAT, MANIFEST, BackupError, Writer
from apps.ops.belongings import files_of, left_out, owned_models
from apps.ops.instance import write_alike
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_snapshot

AT_ONCE = 200  # rows in memory, of which each may have a text of a megabyte
TAR = ".tar"


class _Target(Protocol):
    def add(self, name: str, content: IO[bytes], size: int) -> None: ...
    def finish(self, manifest: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Exported:
    """missing: names of files that were gone when their turn came."""

    path: Path
    rows: int
    files: int
    missing: list[str]


def export_tenant(tenant: Tenant, path: Path) -> Exported:
    """Write to `path`: a tar where its name ends so, else a directory, which may be there and be empty.

    It appears when it is complete, for its owner alone to read. Raises BackupError.
    """
    if path.exists() and not (path.is_dir() and path.suffix != TAR and not any(path.iterdir())):
        raise BackupError(f"{path} exists already: name another file, or a directory that is empty.")
    try:
        # Of this run's own: somebody may be exporting to the same place.
        with tempfile.TemporaryDirectory(prefix=f"{path.name}.", suffix=".partial", dir=path.parent) as place:
            partial = Path(place) / path.name
            with _target(partial, tar=path.suffix == TAR) as target:
                tables = _write_rows(tenant, target)
                files, missing = _write_files(tenant, target)
                target.finish(_about(tenant, tables, files, missing))
            partial.replace(path)
    except DatabaseError as error:
        raise BackupError(f"PostgreSQL cannot be read: {str(error).strip().splitlines()[0]}.") from error
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror or error}.") from error
    return Exported(path, sum(table["rows"] for table in tables.values()), files, missing)


def _about(tenant: Tenant, tables: dict[str, Any], files: int, missing: list[str]) -> dict[str, Any]:
    return {
        "what": "export of a tenant",
        "parley": settings.VERSION,
        "made": timezone.now().isoformat(),
        "tenant": {"id": str(tenant.pk), "slug": tenant.slug, "name": tenant.name},
        "tables": tables,
        "files": {"count": files, "missing": missing},
    }


# --- Where to ---------------------------------------------------------------------------------------------------------


class _Directory:
    """As archive.Writer, but a file each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: list[dict[str, Any]] = []

    def add(self, name: str, content: IO[bytes], size: int) -> None:
        digest, written = sha256(), 0
        with self._create(name) as file:
            while block := content.read(BLOCK):
                digest.update(block)
                written += file.write(block)
        if written != size:
            raise OSError(f"{name} changed its size meanwhile")
        self._parts.append({"name": name, "size": size, "sha256": digest.hexdigest()})

    def finish(self, manifest: dict[str, Any]) -> None:
        with self._create(MANIFEST) as file:
            file.write(json.dumps({"format": FORMAT, **manifest, "parts": self._parts}, indent=1).encode())

    def _create(self, name: str) -> IO[bytes]:
        path = self._path / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


@contextmanager
def _target(path: Path, *, tar: bool) -> Iterator[_Target]:
    if not tar:
        path.mkdir(mode=0o700)
        yield _Directory(path)
        return
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield Writer(file)
        file.flush()
        os.fsync(file.fileno())


# --- What -------------------------------------------------------------------------------------------------------------


def _write_rows(tenant: Tenant, target: _Target) -> dict[str, Any]:
    models: list[type[Model]] = [Tenant, *sorted(owned_models(), key=lambda model: model._meta.db_table)]
    with tenant_snapshot(tenant):
        with connection.cursor() as cursor:
            write_alike(cursor)
        return {model._meta.db_table: _write_table(tenant, target, model) for model in models}


def _write_table(tenant: Tenant, target: _Target, model: type[Model]) -> dict[str, Any]:
    reasons = {str(field.column): left_out(field) for field in model._meta.concrete_fields}
    statement = sql.SQL(
        "SELECT row_to_json(r)::text FROM (SELECT {columns} FROM {table} WHERE {whose} = %s ORDER BY id) r"
    ).format(
        columns=sql.SQL(", ").join(sql.Identifier(column) for column, reason in reasons.items() if not reason),
        table=sql.Identifier(model._meta.db_table),
        whose=sql.Identifier("id" if model is Tenant else "tenant_id"),
    )
    rows = 0
    # A tar wants to know how long a part is before it comes.
    with tempfile.TemporaryFile() as spool, connection.chunked_cursor() as cursor:
        cursor.execute(statement, [tenant.pk])
        while some := cursor.fetchmany(AT_ONCE):
            rows += len(some)
            spool.writelines(f"{row}\n".encode() for (row,) in some)
        size = spool.tell()
        spool.seek(0)
        target.add(f"tables/{model._meta.db_table}.jsonl", spool, size)
    return {"rows": rows, "left_out": {column: reason for column, reason in reasons.items() if reason}}


def _write_files(tenant: Tenant, target: _Target) -> tuple[int, list[str]]:
    """How many, and which were deleted meanwhile."""
    count, missing = 0, []
    for name in files_of(tenant.pk):
        try:
            size = default_storage.size(name)
            with default_storage.open(name) as content:
                target.add(f"files/{name}", content, size)
            count += 1
        except FileNotFoundError:
            missing.append(name)
    return count, missing
