"""The one way to a tenant's rows: each unit of work runs in a `tenant_scope`, each query starts `.for_tenant(tenant)`.

The second is a promise of the code, the first is what PostgreSQL enforces: its policies compare each row's tenant with
`app.tenant`, which lives as long as one transaction. With none set, a query of tenants' rows is an error.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, Protocol, Self, TypeVar, Union

import psycopg
from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, models, transaction
from psycopg_pool import PoolClosed, PoolTimeout

if TYPE_CHECKING:
    from apps.tenants.models import Tenant

P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W", bound="Whose")
M = TypeVar("M", bound=models.Model)


class Owned(Protocol):
    """What belongs to one tenant: a row, a caller."""

    @property
    def tenant_id(self) -> uuid.UUID: ...


Whose = Union["Tenant", uuid.UUID, str, Owned]

ENTER = "SELECT set_config('app.tenant', %s, true)"


class TenantQuerySet(models.QuerySet[M]):
    def for_tenant(self, tenant: Tenant | uuid.UUID) -> Self:
        return self.filter(tenant=tenant)


class TenantOwned(models.Model):
    """A row that belongs to one tenant and is found only through it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+")

    objects: ClassVar[Any] = TenantQuerySet.as_manager()

    class Meta:
        abstract = True


def tenant_id_of(whose: Whose) -> str:
    if isinstance(whose, uuid.UUID | str):
        return str(whose)
    return str(getattr(whose, "tenant_id", None) or whose.pk)  # type: ignore[union-attr]  # a Tenant


@contextmanager
def tenant_scope(whose: Whose) -> Iterator[None]:
    """A transaction in which PostgreSQL shows the rows of one tenant: of `whose`, or the one that it belongs to.

    Inside a scope of the same tenant it is a savepoint; inside another's, that one's rows come back afterwards.
    """
    name = tenant_id_of(whose)
    connection = connections[DEFAULT_DB_ALIAS]
    outer, nested = getattr(connection, "_parley_tenant", ""), connection.in_atomic_block
    with transaction.atomic():
        if outer == name:
            yield
            return
        try:
            _enter(connection, name)
            yield
            if nested:
                _enter(connection, outer)  # a savepoint that is kept keeps the setting; one rolled back undoes it
        finally:
            connection._parley_tenant = outer  # type: ignore[attr-defined]


@contextmanager
def patient_scope(whose: Whose) -> Iterator[None]:
    """A tenant_scope whose statements may take longer than those that somebody waits for."""
    with tenant_scope(whose), connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '10min'")
        yield


@contextmanager
def tenant_snapshot(whose: Whose) -> Iterator[None]:
    """A tenant_scope for reading, however long it takes, what was there when it began. Not for use within another."""
    connection = connections[DEFAULT_DB_ALIAS]
    connection.ensure_connection()
    session: Any = connection.connection
    session.isolation_level, session.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
    try:
        with tenant_scope(whose), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
            yield
    finally:
        if not session.closed:  # it goes back to the pool
            session.isolation_level = session.read_only = None


def _enter(connection: Any, name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(ENTER, (name,))
    connection._parley_tenant = name


async def unit(work: Callable[Concatenate[W, P], R], whose: W, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `work(whose, ...)` in the scope of its tenant, as one short transaction in a thread, and give its connection
    back to the pool at once.

    Plain sync_to_async keeps pooled connections in its threads, which empties the pool.
    """

    def scoped() -> R:
        with tenant_scope(whose):
            return work(whose, *args, **kwargs)

    return await _in_thread(scoped)


async def platform_unit(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The same for what belongs to no tenant, or happens before one is known."""

    def unscoped() -> R:
        with transaction.atomic():
            return work(*args, **kwargs)

    return await _in_thread(unscoped)


async def _in_thread(work: Callable[[], R]) -> R:
    def run() -> R:
        try:
            return work()
        except OperationalError as error:
            if _is_lost(error.__cause__):
                connections["default"].pool.drain()  # type: ignore[attr-defined]  # PostgreSQL's has one
            raise
        finally:
            connections.close_all()

    return await sync_to_async(run, thread_sensitive=False)()


def no_connection(error: BaseException) -> bool:
    """Whether this says that there was no connection, or no longer: what was not begun may be tried again."""
    cause = error.__cause__ or error
    return isinstance(cause, PoolTimeout | PoolClosed) or _is_lost(cause) or getattr(cause, "sqlstate", "") == "53300"


def _is_lost(error: BaseException | None) -> bool:
    """Whether this ended a connection, as a restart of PostgreSQL does. Then it ended the idle ones of the pool, too,
    and each of them would fail another question."""
    if not isinstance(error, psycopg.OperationalError) or isinstance(error, PoolTimeout | PoolClosed):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
