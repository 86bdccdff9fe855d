"""Where pages about all tenants read: through the operators' own login, which sees everything and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model

OPERATOR = "operator"

_across: ContextVar[bool] = ContextVar("across_tenants", default=False)


def has_operator_login() -> bool:
    """Whether OPERATOR_DATABASE_URL is set."""
    return OPERATOR in connections


@contextmanager
def across_tenants() -> Iterator[None]:
    """Let the ORM read every tenant's rows here, but for what happens in a tenant_scope. Writes go where they always
    do, and to tenants' rows only in a scope."""
    token = _across.set(True)
    try:
        yield
    finally:
        _across.reset(token)


class Router:
    """Django's question which database a query goes to."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        scoped = getattr(connections[DEFAULT_DB_ALIAS], "_parley_tenant", "")
        return OPERATOR if _across.get() and not scoped else self.db_for_write(model, **hints)

    def db_for_write(self, _model: type[Model], **hints: Any) -> str | None:
        instance = hints.get("instance")
        # Left to itself, Django stays where a row was read, and nobody writes with the operators' login.
        return DEFAULT_DB_ALIAS if instance is not None and instance._state.db == OPERATOR else None

    def allow_relation(self, one: Model, other: Model, **_hints: Any) -> bool | None:
        # Both aliases are the same database.
        return True if {one._state.db, other._state.db} <= {DEFAULT_DB_ALIAS, OPERATOR} else None
