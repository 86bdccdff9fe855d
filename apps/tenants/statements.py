"""Short transactions of plain SQL on the event loop's own connections: for the few units that every question needs.

An ORM unit (scoping.unit) is the rule. It costs a hop to a thread and about half a millisecond of CPU a query, which
for opening and closing a turn added up to most of what a question cost; the same statements here take a tenth of that.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import cache
from itertools import islice
from typing import Any, Generic, TypeVar

import psycopg
from django.conf import settings
from django.db import connections, models
from django.db.utils import DatabaseErrorWrapper
from psycopg.types.json import Jsonb

from apps.edge.tracing import span
from apps.tenants.pool import Connection, Pool
from apps.tenants.scoping import Whose, tenant_id_of

M = TypeVar("M", bound=models.Model)
# A burst of questions queues for connections: a search of 10,000 passages holds one for some 8 ms.
WAIT_SECONDS = 5.0
# As scoping.ENTER, but without a parameter: only such statements may share a round trip.
_ENTER = "SELECT set_config('app.tenant', '{}', true)"

_Holder = AsyncGenerator[Pool]


class _Driver:
    """What Django's translation of exceptions wants to know; connections[...] would be made anew for each task."""

    Database = psycopg
    errors_occurred = False


_translated = DatabaseErrorWrapper(_Driver())
_pools: dict[asyncio.AbstractEventLoop, tuple[Pool, _Holder]] = {}


@asynccontextmanager
async def transaction(whose: Whose) -> AsyncGenerator[Connection]:
    """A connection in a transaction of the tenant's scope, committed on leaving. Await nothing else inside that may
    last: it is one of few.

    Raises the exceptions of django.db, as the ORM does: OperationalError also where no connection gets free in
    WAIT_SECONDS.
    """
    with _translated, span("transaction", "CLIENT", db__system__name="postgresql"):
        async with (await _pool()).transaction(_ENTER.format(uuid.UUID(tenant_id_of(whose)))) as connection:
            yield connection


async def _pool() -> Pool:
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        holder = _hold_pool(loop)
        _pools[loop] = await anext(holder), holder
    return _pools[loop][0]


async def _hold_pool(loop: asyncio.AbstractEventLoop) -> _Holder:
    # A generator, because a loop that ends closes its generators.
    parameters = connections["default"].get_connection_params()
    # These are for Django's own, synchronous connections.
    for name in ("cursor_factory", "context", "pool"):
        parameters.pop(name, None)
    if not settings.DATABASE_PGBOUNCER:  # which may give the next transaction to a session that prepared nothing
        del parameters["prepare_threshold"]
    pool = Pool(parameters, size=settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"], patience=WAIT_SECONDS)
    try:
        yield pool
    finally:
        del _pools[loop]
        await pool.close()


class Columns(Generic[M]):
    """A model's columns within a SELECT, under the alias of its table; without `names`, those of all its fields.

    Values become fields as psycopg gives them, so this is not for fields that convert what they store.
    """

    def __init__(self, model: type[M], alias: str, *names: str) -> None:
        fields = [field for field in model._meta.concrete_fields if not names or field.name in names]
        self.model = model
        self.names = [field.attname for field in fields]
        self.sql = ", ".join(f'{alias}."{field.column}"' for field in fields)

    def __str__(self) -> str:
        return self.sql

    def read(self, values: Iterator[Any]) -> M:
        """The row that comes next in `values`; fields that were not selected are deferred."""
        return self.model.from_db("default", self.names, list(islice(values, len(self.names))))

    def read_joined(self, values: Iterator[Any]) -> M | None:
        """The same after an outer join, which may have found none."""
        row = self.read(values)
        return None if row.pk is None else row


async def insert(connection: Connection, row: models.Model) -> None:
    """Write a new row, with the defaults of its model. Raises psycopg's IntegrityError."""
    values = []
    for field in row._meta.concrete_fields:
        value = field.pre_save(row, add=True)
        values.append(Jsonb(value) if isinstance(field, models.JSONField) else value)
    await connection.execute(_insertion(type(row)), values)


@cache
def _insertion(model: type[models.Model]) -> str:
    names = [f'"{field.column}"' for field in model._meta.concrete_fields]
    marks = ", ".join(["%s"] * len(names))
    return f'INSERT INTO "{model._meta.db_table}" ({", ".join(names)}) VALUES ({marks})'  # noqa: S608 - names of ours
