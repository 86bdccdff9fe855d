"""`manage.py setup_database`: migrates as the owner and grants the app's role what it may do, no more."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from psycopg import sql

OWNER = "owner"

# As default privileges and ahead of the migrations, so that a migration can take a right away and it stays taken.
DEFAULTS = (
    "GRANT USAGE ON SCHEMA public TO {app}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {app}",
)

# Tables of somebody who ran `migrate` first: no right on them was ever given or taken.
UNTOUCHED = """
    SELECT c.relname, c.relkind = 'S' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'S') AND c.relacl IS NULL
      AND c.relowner = current_user::regrole
"""


class Command(BaseCommand):
    help = (
        "Migrate as the owner (OWNER_DATABASE_URL) and grant the app's role (DATABASE_URL) its rights. Harmless twice."
    )
    requires_system_checks = ()

    def handle(self, *_args: Any, **_options: Any) -> None:
        if OWNER not in settings.DATABASES:
            raise CommandError(
                "OWNER_DATABASE_URL is not set: it is the address of the database as the role that owns the tables."
            )
        app = settings.DATABASES["default"]["USER"]
        connection = connections[OWNER]
        if app == settings.DATABASES[OWNER]["USER"]:
            raise CommandError("DATABASE_URL and OWNER_DATABASE_URL name the same role: row-level security needs two.")
        try:
            _give_defaults(connection, app)
            executor = MigrationExecutor(connection)
            pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
            if pending:
                self.stdout.write(f"Applying {len(pending)} migrations")
                call_command("migrate", database=OWNER, verbosity=0, interactive=False)
            _grant_untouched(connection, app)
            self.stdout.write("The database is up to date.")
        finally:
            connection.close()


def _give_defaults(connection: BaseDatabaseWrapper, app: str) -> None:
    with connection.cursor() as cursor:
        for statement in DEFAULTS:
            cursor.execute(sql.SQL(statement).format(app=sql.Identifier(app)))


def _grant_untouched(connection: BaseDatabaseWrapper, app: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(UNTOUCHED)
        for name, is_sequence in cursor.fetchall():
            statement = (
                "GRANT USAGE, SELECT ON SEQUENCE {} TO {}"
                if is_sequence
                else "GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}"
            )
            cursor.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(app)))
