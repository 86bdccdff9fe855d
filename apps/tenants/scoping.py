"""The one way to a tenant's rows: every query starts with `.for_tenant(tenant)`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Self, TypeVar

import psycopg
from asgiref.sync import sync_to_async
from django.db import OperationalError, connections, models, transaction
from psycopg_pool import PoolClosed, PoolTimeout

if TYPE_CHECKING:
    from apps.tenants.models import Tenant

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=models.Model)


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


async def unit(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run database work as one short transaction in a thread, and give its connection back to the pool at once.

    Plain sync_to_async keeps pooled connections in its threads, which empties the pool.
    """

    def run() -> R:
        try:
            with transaction.atomic():
                return work(*args, **kwargs)
        except OperationalError as error:
            if _is_lost(error.__cause__):
                connections["default"].pool.drain()  # type: ignore[attr-defined]  # PostgreSQL's has one
            raise
        finally:
            connections.close_all()

    return await sync_to_async(run, thread_sensitive=False)()


def _is_lost(error: BaseException | None) -> bool:
    """Whether this ended a connection, as a restart of PostgreSQL does. Then it ended the idle ones of the pool, too,
    and each of them would fail another question."""
    if not isinstance(error, psycopg.OperationalError) or isinstance(error, PoolTimeout | PoolClosed):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
