"""What migrations put beneath the code's own filters: policies that show each tenant's rows in its scope alone.

A migration that makes a tenant-owned table ends with `Protect("app_label", "Model")`. What must happen before a tenant
is known, or across tenants, is a `DefinerFunction`, which tells of rows no more than whose they are.

Four roles take part, and no name of one is written down in a migration:

- the owner is whoever migrates. Policies hold for it too (FORCE), but in sessions that say so in `app.maintenance`, as
  those of OWNER_DATABASE_URL do (config/databases.py): migrations, backup and restore see every tenant's rows;
- the app's is the user of DATABASE_URL;
- the search role, PARLEY_SEARCH_ROLE, owns the functions and can log in nowhere. It reads what they name, no more;
- the operators', the user of OPERATOR_DATABASE_URL, reads everything and writes nothing. It may come later than the
  tables, so `setup_database` gives it its policies, after every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import ForeignKey, Model
from psycopg import sql

# A setting that was never made is an error, and so is the empty one that a transaction's setting leaves behind.
_PROTECTION = """
    CREATE POLICY tenant ON {table}
        USING ({column} = current_setting('app.tenant')::uuid)
        WITH CHECK ({column} = current_setting('app.tenant')::uuid);
    CREATE POLICY maintenance ON {table} TO CURRENT_USER
        USING (current_setting('app.maintenance', true) = 'on')
        WITH CHECK (current_setting('app.maintenance', true) = 'on');
    ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY
"""
_POLICIES = "SELECT polname FROM pg_policy WHERE polrelid = to_regclass(%s)"
_HAS_CONSTRAINT = "SELECT FROM pg_constraint WHERE conrelid = to_regclass(%s) AND conname = %s"


class _OfDatabase(Operation):
    """Changes the database and nothing that a model says."""

    reduces_to_sql = True
    reversible = True

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass


class Protect(_OfDatabase):
    """Row-level security for the table of a tenant-owned model, and foreign keys that cannot leave the tenant.

    Whoever is no superuser sees and writes the rows of the tenant in `app.tenant`; without one, every statement is an
    error. Each foreign key to another tenant-owned table takes the tenant along, (tenant_id, x_id) -> (tenant_id, id),
    and is otherwise as Django made it: deferred, with nothing done on deletion, which is the collector's business.
    """

    def __init__(self, model_app: str, model: str, *, column: str = "tenant_id") -> None:
        """column: the one that names the tenant."""
        self.model_app = model_app
        self.model = model
        self.column = column

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        model = to_state.apps.get_model(self.model_app, self.model)
        for field in _references(model):
            _bind(schema_editor, model, field)
        table, column = sql.Identifier(_table(model)), sql.Identifier(self.column)
        _execute(schema_editor, _PROTECTION, table=table, column=column)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        model = from_state.apps.get_model(self.model_app, self.model)
        table = sql.Identifier(_table(model))
        _execute(
            schema_editor, "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY", table=table
        )
        for (policy,) in _query(schema_editor, _POLICIES, _table(model)):
            _execute(schema_editor, "DROP POLICY {policy} ON {table}", policy=sql.Identifier(policy), table=table)
        for field in _references(model):
            _unbind(schema_editor, model, field)
        _drop_constraint(schema_editor, model, _target_name(model))

    def describe(self) -> str:
        return f"Row-level security for {self.model}"


class BindReferences(_OfDatabase):
    """For foreign keys that a protected model got later: those to tenant-owned rows take the tenant along, too."""

    def __init__(self, model_app: str, model: str) -> None:
        self.model_app = model_app
        self.model = model

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        model = to_state.apps.get_model(self.model_app, self.model)
        for field in _references(model):
            if not _query(schema_editor, _HAS_CONSTRAINT, _table(model), _reference_name(model, field)):
                _bind(schema_editor, model, field)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """A key ends with its column."""

    def describe(self) -> str:
        return f"Foreign keys of {self.model} stay within the tenant"


class DefinerFunction(_OfDatabase):
    """A function that the app's role calls and that reads, as the search role, the rows of all tenants.

    Let it return (tenant_id, id), or a credential's digest beside them, and do the work itself in a tenant_scope.

    arguments: as CREATE FUNCTION takes them, "name text, ...". returns: "TABLE (tenant_id uuid, id uuid)" or a type.
    body: the statement, of `language` sql, or plpgsql's block. reads: by table, the columns that the body names; what
    else stands in it cannot be read. attributes: others of CREATE FUNCTION. A migration that changes a function states
    it anew, as a whole.
    """

    def __init__(
        self,
        name: str,
        arguments: str,
        returns: str,
        body: str,
        *,
        reads: Mapping[str, Sequence[str]],
        language: str = "sql",
        attributes: str = "STABLE",
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.returns = returns
        self.body = body
        self.reads = reads
        self.language = language
        self.attributes = attributes

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        search = sql.Identifier(settings.PARLEY_SEARCH_ROLE)
        for table, columns in self.reads.items():
            _let_read(schema_editor, search, table, columns)
        _execute(
            schema_editor,
            # pg_temp comes last, or a temporary table of the caller's would be read in place of ours.
            """
            DROP FUNCTION IF EXISTS {name};
            CREATE FUNCTION {name}({arguments}) RETURNS {returns} LANGUAGE {language} {attributes} SECURITY DEFINER
                SET search_path = pg_catalog, public, pg_temp AS {body};
            REVOKE ALL ON FUNCTION {name} FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION {name} TO {app};
            GRANT CREATE ON SCHEMA public TO {search};
            ALTER FUNCTION {name} OWNER TO {search};
            REVOKE CREATE ON SCHEMA public FROM {search}
            """,
            name=sql.Identifier(self.name),
            arguments=sql.SQL(self.arguments),
            returns=sql.SQL(self.returns),
            language=sql.SQL(self.language),
            attributes=sql.SQL(self.attributes),
            body=sql.Literal(self.body),
            app=sql.Identifier(settings.DATABASES["default"]["USER"]),
            search=search,
        )

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        _execute(schema_editor, "DROP FUNCTION IF EXISTS {name}", name=sql.Identifier(self.name))

    def describe(self) -> str:
        return f"Function {self.name}"


def _let_read(
    schema_editor: BaseDatabaseSchemaEditor, search: sql.Identifier, name: str, columns: Sequence[str]
) -> None:
    table = sql.Identifier(name)
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    _execute(schema_editor, "GRANT SELECT ({names}) ON {table} TO {search}", names=names, table=table, search=search)
    if ("search",) not in _query(schema_editor, _POLICIES, name):
        statement = "CREATE POLICY search ON {table} FOR SELECT TO {search} USING (true)"
        _execute(schema_editor, statement, table=table, search=search)


# --- Foreign keys -----------------------------------------------------------------------------------------------------


def _is_owned(model: type[Model]) -> bool:
    return any(field.name == "tenant" for field in model._meta.concrete_fields)


def _is_enforced(field: ForeignKey[Any, Any]) -> bool:
    return bool(field.db_constraint)  # type: ignore[attr-defined]  # django-stubs know it not


def _references(model: type[Model]) -> Iterator[ForeignKey[Any, Any]]:
    """To rows that belong to a tenant as these do."""
    if not _is_owned(model):
        return
    for field in model._meta.concrete_fields:
        if isinstance(field, ForeignKey) and _is_enforced(field) and _is_owned(field.remote_field.model):
            yield field


def _table(model: type[Model]) -> str:
    return str(model._meta.db_table)


def _target_name(model: type[Model]) -> str:
    return f"{_table(model)}_of_tenant"


def _reference_name(model: type[Model], field: ForeignKey[Any, Any]) -> str:
    return f"{_table(model)}_{field.column}_of_tenant"


def _bind(schema_editor: BaseDatabaseSchemaEditor, model: type[Model], field: ForeignKey[Any, Any]) -> None:
    target = field.remote_field.model
    if not _query(schema_editor, _HAS_CONSTRAINT, _table(target), _target_name(target)):
        _execute(
            schema_editor,
            "ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE (tenant_id, id)",
            table=sql.Identifier(_table(target)),
            name=sql.Identifier(_target_name(target)),
        )
    _forget_plain(schema_editor, model, field)
    _execute(
        schema_editor,
        "ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY (tenant_id, {column})"
        " REFERENCES {target} (tenant_id, id) DEFERRABLE INITIALLY DEFERRED",
        table=sql.Identifier(_table(model)),
        name=sql.Identifier(_reference_name(model, field)),
        column=sql.Identifier(field.column),
        target=sql.Identifier(_table(target)),
    )


def _unbind(schema_editor: BaseDatabaseSchemaEditor, model: type[Model], field: ForeignKey[Any, Any]) -> None:
    _drop_constraint(schema_editor, model, _reference_name(model, field))
    if not _plain(schema_editor, model, field):  # knowledge's 0034 tells where there was one beside ours
        suffix = "_fk_%(to_table)s_%(to_column)s"
        schema_editor.execute(schema_editor._create_fk_sql(model, field, suffix))  # type: ignore[attr-defined]


def _plain(schema_editor: BaseDatabaseSchemaEditor, model: type[Model], field: ForeignKey[Any, Any]) -> list[str]:
    """Names of the keys that Django made of it, without the tenant."""
    return list(schema_editor._constraint_names(model, [field.column], foreign_key=True))  # type: ignore[attr-defined]


def _forget_plain(schema_editor: BaseDatabaseSchemaEditor, model: type[Model], field: ForeignKey[Any, Any]) -> None:
    for name in _plain(schema_editor, model, field):
        _drop_constraint(schema_editor, model, name)
    # Those of a table that the same migration makes, Django adds when all of its operations are done.
    schema_editor.deferred_sql = [
        statement
        for statement in schema_editor.deferred_sql
        if not isinstance(statement, Statement)
        or statement.template != schema_editor.sql_create_fk
        or not statement.references_column(_table(model), field.column)
    ]


def _drop_constraint(schema_editor: BaseDatabaseSchemaEditor, model: type[Model], name: str) -> None:
    statement = "ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name} CASCADE"
    _execute(schema_editor, statement, table=sql.Identifier(_table(model)), name=sql.Identifier(name))


# --- Statements -------------------------------------------------------------------------------------------------------


def _execute(schema_editor: BaseDatabaseSchemaEditor, statement: str, **parts: sql.Composable) -> None:
    """Runs it also where a migration is only written down (`sqlmigrate`)."""
    composed = sql.SQL(statement).format(**parts)
    schema_editor.execute(composed.as_string(), params=None)


def _query(schema_editor: BaseDatabaseSchemaEditor, statement: str, *values: str) -> list[tuple[Any, ...]]:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
