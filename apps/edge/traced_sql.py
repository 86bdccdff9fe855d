"""A span for each statement of the ORM: its text, in which parameters are marks, and never the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.backends.signals import connection_created

from apps.edge.tracing import span

MOST_CHARS = 2000  # of a statement


def begin() -> None:
    """Watch every connection from now on."""
    connection_created.connect(_watch, dispatch_uid="traced_sql")


def _watch(connection: Any, **_: object) -> None:
    if _execute not in connection.execute_wrappers:  # it outlives what it connects to
        connection.execute_wrappers.append(_execute)


def _execute(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
    statement = str(sql)
    verb = statement.split(None, 1)[0].upper() if statement.strip() else "SQL"
    with span(verb, "CLIENT", db__system__name="postgresql", db__query__text=statement[:MOST_CHARS]):
        return execute(sql, params, many, context)
