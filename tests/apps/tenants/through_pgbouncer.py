"""Runs scopes of two tenants through whatever DATABASE_URL leads to, and prints what they saw as JSON.

python -m tests.apps.tenants.through_pgbouncer TENANT TENANT
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.db import DatabaseError, connection, connections  # noqa: E402 - after Django's setup

from apps.tenants import statements  # noqa: E402
from apps.tenants.models import EndUser, Tenant  # noqa: E402
from apps.tenants.scoping import tenant_scope  # noqa: E402

ROUNDS = 200
Seen = tuple[uuid.UUID, int, set[uuid.UUID]]  # whose scope, in which session, whose rows


def by_orm(tenant_id: uuid.UUID) -> Seen:
    try:
        with tenant_scope(tenant_id):
            owners = {row.tenant_id for row in EndUser.objects.order_by("pk").iterator(chunk_size=2)}
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                return tenant_id, cursor.fetchone()[0], owners
    finally:
        connections.close_all()


async def by_statement(tenant_id: uuid.UUID) -> Seen:
    async with statements.transaction(Tenant(id=tenant_id)) as held:
        rows = await (await held.execute("SELECT tenant_id, pg_backend_pid() FROM tenants_enduser")).fetchall()
    return tenant_id, rows[0][1], {row[0] for row in rows}


async def on_the_loop(tenants: list[uuid.UUID]) -> list[Seen]:
    return list(await asyncio.gather(*(by_statement(tenants[n % 2]) for n in range(ROUNDS))))


def without_a_scope() -> str:
    """The error of a session that the scopes have used."""
    try:
        EndUser.objects.count()
    except DatabaseError as error:
        return str(error)
    return ""


def main() -> None:
    tenants = [uuid.UUID(name) for name in sys.argv[1:]]
    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(by_orm, [tenants[n % 2] for n in range(ROUNDS)]))
    seen += asyncio.run(on_the_loop(tenants))
    served = {session: {tenant for tenant, in_session, _ in seen if in_session == session} for _, session, _ in seen}
    told = {
        "scopes": len(seen),
        "foreign": sum(owners != {tenant} for tenant, _, owners in seen),
        "sessions": len(served),
        "shared": sum(len(of) == 2 for of in served.values()),
        "without_a_scope": without_a_scope(),
    }
    json.dump(told, sys.stdout)
    connection.close_pool()  # type: ignore[attr-defined]  # of the PostgreSQL backend


if __name__ == "__main__":
    main()
