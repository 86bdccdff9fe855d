"""`manage.py setup_database`: migrates as the owner and grants the other roles what they may do, no more."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from psycopg import sql
from psycopg.errors import LockNotAvailable

OWNER = "owner"
OPERATOR = "operator"

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


# Whether the owner may hand functions over to the search role, and whether it has what that role may read.
SEARCH_ROLE = """
    SELECT rolcanlogin OR rolsuper OR rolbypassrls, pg_has_role(current_user, oid, 'SET'),
        pg_has_role(current_user, oid, 'USAGE') AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
    FROM pg_roles WHERE rolname = %s
"""
MAKE_SEARCH_ROLE = "CREATE ROLE {search} NOLOGIN; GRANT {search} TO {owner} WITH INHERIT FALSE, SET TRUE"

# Operators read what there is, and every tenant's rows. No default privileges: they would make a table look touched.
OF_OPERATORS = (
    "GRANT USAGE ON SCHEMA public TO {operator}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {operator}",
)
HIDDEN_FROM = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relrowsecurity AND NOT EXISTS (
        SELECT FROM pg_policy p
        WHERE p.polrelid = c.oid AND p.polroles = ARRAY[(SELECT oid FROM pg_roles WHERE rolname = %s)]
    )
"""


class Command(BaseCommand):
    help = (
        "Migrate as the owner (OWNER_DATABASE_URL) and grant the roles of DATABASE_URL and OPERATOR_DATABASE_URL their"
        " rights. Harmless twice."
    )
    requires_system_checks = ()

    def handle(self, *_args: Any, **_options: Any) -> None:
        if OWNER not in settings.DATABASES:
            raise CommandError(
                "OWNER_DATABASE_URL is not set: it is the address of the database as the role that owns the tables."
            )
        app, operator = _role("default"), _role(OPERATOR)
        connection = connections[OWNER]
        if app == _role(OWNER):
            raise CommandError("DATABASE_URL and OWNER_DATABASE_URL name the same role: row-level security needs two.")
        if operator in (app, _role(OWNER)):
            raise CommandError("OPERATOR_DATABASE_URL names a role of another kind: operators need one of their own.")
        try:
            _check_search_role(connection, settings.PARLEY_SEARCH_ROLE)
            _give_defaults(connection, app)
            executor = MigrationExecutor(connection)
            pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
            if pending:
                self.stdout.write(f"Applying {len(pending)} migrations")
                _migrate()
            _grant_untouched(connection, app)
            if operator:
                _show_to_operators(connection, operator)
            self.stdout.write("The database is up to date.")
        finally:
            connection.close()


def _role(alias: str) -> str:
    """The user of an alias; empty where it is not configured."""
    return str(settings.DATABASES.get(alias, {}).get("USER", ""))


def _check_search_role(connection: BaseDatabaseWrapper, search: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(SEARCH_ROLE, [search])
        found = cursor.fetchone()
    mended = MAKE_SEARCH_ROLE.format(search=search, owner=_role(OWNER))
    if not found or not found[1]:
        raise CommandError(f"The role {search} is missing or not the owner's to use. As a superuser: {mended}")
    if found[0]:
        raise CommandError(f"The role {search} must not log in, bypass row-level security or be a superuser.")
    if found[2]:
        raise CommandError(
            f"The owner inherits what {search} may read. As a superuser: REVOKE {search} FROM the owner; {mended}"
        )


def _migrate() -> None:
    try:
        call_command("migrate", database=OWNER, verbosity=0, interactive=False)
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
        raise CommandError(str(error).splitlines()[0]) from error  # apps/edge/table_locks.py says what to do


def _show_to_operators(connection: BaseDatabaseWrapper, operator: str) -> None:
    with connection.cursor() as cursor:
        for statement in OF_OPERATORS:
            cursor.execute(sql.SQL(statement).format(operator=sql.Identifier(operator)))
        cursor.execute(HIDDEN_FROM, [operator])
        for (name,) in cursor.fetchall():
            statement = "CREATE POLICY {} ON {} FOR SELECT TO {} USING (true)"
            policy = f"operator {operator}"
            cursor.execute(sql.SQL(statement).format(*map(sql.Identifier, (policy, name, operator))))


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
