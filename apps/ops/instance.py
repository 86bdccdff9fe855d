"""What of an instance a backup holds, and what must be alike where it is restored."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from apps.ops.archive import BackupError

OWNER = "owner"

# Migrations fill these; a restore replaces what they hold.
SEEDED = ("django_content_type", "auth_permission")
# The manifest tells which migrations ran. What has ended since then must not come back to life: logins, processes.
LEFT_OUT = ("django_migrations", "django_session", "conversations_replica")
# Columns that name files in the storage.
STORED = (("knowledge_document", "stored"), ("widget_widget", "logo"))

_TABLES = """
    SELECT c.relname,
           array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attgenerated = '')
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    GROUP BY c.relname ORDER BY c.relname
"""

# How values are written must not depend on what a server is set to.
_AS_WRITTEN = """
    SET LOCAL client_encoding = 'UTF8'; SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres';
    SET LOCAL timezone = 'UTC'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex';
    SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0
"""


# Row-level security would leave rows out in silence where nothing shows them all to who asks.
_HIDING = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relrowsecurity AND NOT EXISTS (
        SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'maintenance' AND p.polcmd = '*'
            AND p.polroles = ARRAY[current_user::regrole::oid]
    )
    ORDER BY 1
"""


@dataclass(frozen=True)
class Table:
    name: str
    columns: list[str]


def owner() -> BaseDatabaseWrapper:
    """The connection of the role that owns the tables: the product's own sees one tenant's rows at a time."""
    if OWNER not in settings.DATABASES:
        raise BackupError("OWNER_DATABASE_URL is not set: only the role that owns the tables may read and fill them.")
    return connections[OWNER]


def write_alike(cursor: CursorWrapper) -> None:
    """For the rest of the transaction."""
    cursor.execute(_AS_WRITTEN)


def tables(cursor: CursorWrapper) -> list[Table]:
    """Those that a backup holds. Generated columns are left to PostgreSQL. Raises BackupError where rows are hidden."""
    cursor.execute(_HIDING)
    if hiding := cursor.fetchone():
        raise BackupError(f"{hiding[0]} hides rows from this role: OWNER_DATABASE_URL must name the one that migrates.")
    cursor.execute(_TABLES)
    return [Table(name, columns) for name, columns in cursor.fetchall() if name not in LEFT_OUT]


def migrations(cursor: CursorWrapper) -> list[str]:
    """Those that ran. Raises BackupError where none did."""
    cursor.execute("SELECT to_regclass('public.django_migrations') IS NULL")
    if cursor.fetchone()[0]:
        raise BackupError("The database has no tables yet: run manage.py setup_database first.")
    cursor.execute("SELECT app || '.' || name FROM django_migrations ORDER BY 1")
    return [row[0] for row in cursor.fetchall()]


def secrets() -> dict[str, Any]:
    """By which one sees that two instances have the same secrets, and not what they are."""
    return {
        "pepper": _fingerprint(settings.PARLEY_KEY_PEPPER),
        "encryption_keys": [_fingerprint(key) for key in settings.PARLEY_ENCRYPTION_KEYS],
    }


def _fingerprint(secret: str) -> str:
    return hmac.new(secret.encode(), b"parley backup", hashlib.sha256).hexdigest()[:16]
