"""With every filter of ours forgotten, PostgreSQL alone shows one tenant nothing of another, and lets it touch none."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg
import pytest
from django.apps import apps
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.db.utils import DataError, ProgrammingError
from psycopg import sql

from apps.knowledge.models import Chunk
from apps.tenants import statements
from apps.tenants.models import EndUser, Tenant
from apps.tenants.scoping import TenantQuerySet, tenant_scope, unit
from tests import all_tenants, factories
from tests.apps.admin_world import make_world
from tests.architecture.test_row_security import ELSEWHERE
from tests.environment import Backends

TABLES = sorted(
    {model._meta.db_table for model in apps.get_models() if model._meta.db_table in ELSEWHERE}
    | {
        model._meta.db_table
        for model in apps.get_models()
        if any(field.name == "tenant" for field in model._meta.concrete_fields)
    }
)
# The app's role may only read them: audit_append writes.
READ_ONLY = {"tenants_auditentry", "tenants_audithead"}
REFUSED = r"row-level security|permission denied|a prompt version never changes"
each_table = pytest.mark.parametrize("table", TABLES)


class Cast(NamedTuple):
    acme: Tenant
    globex: Tenant


@pytest.fixture
def cast(database: None) -> Cast:
    world = make_world()
    return Cast(world.acme, world.globex)


@pytest.fixture
def unfiltered(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Cast:
    """As if every query of ours had forgotten its tenant; and the statements of this test are shown what ours are."""
    monkeypatch.setattr(TenantQuerySet, "for_tenant", lambda self, _tenant: self.all())
    monkeypatch.setattr(all_tenants, "_is_a_tests", lambda _frame: False)
    return cast


def column_of(table: str) -> str:
    return ELSEWHERE.get(table, "tenant_id")


def execute(statement: str, table: str, *values: Any) -> list[tuple[Any, ...]] | int:
    """Rows, or how many were touched."""
    composed = sql.SQL(statement).format(table=sql.Identifier(table), tenant=sql.Identifier(column_of(table)))
    with connection.cursor() as cursor:
        cursor.execute(composed.as_string(), values)
        return list(cursor.fetchall()) if cursor.description else cursor.rowcount


def whole(servers: Backends, table: str) -> list[tuple[Any, ...]]:
    """Every row, as the superuser sees it."""
    query = sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(table))
    return servers.superuser.execute(query).fetchall()


@each_table
def test_10_nothing_is_read(servers: Backends, unfiltered: Cast, table: str) -> None:
    with tenant_scope(unfiltered.globex):
        assert execute("SELECT 1 FROM {table} WHERE {tenant} <> %s", table, unfiltered.globex.pk) == []
        assert execute("SELECT 1 FROM {table} WHERE {tenant} = %s", table, unfiltered.acme.pk) == []
    with tenant_scope(unfiltered.acme):
        seen = execute("SELECT t::text FROM {table} t ORDER BY 1", table)
    column = sql.Identifier(column_of(table))
    theirs = sql.SQL("SELECT t::text FROM {} t WHERE {} = %s ORDER BY 1").format(sql.Identifier(table), column)
    assert seen == servers.superuser.execute(theirs, [unfiltered.acme.pk]).fetchall()


@each_table
def test_10_nothing_is_changed_or_deleted(servers: Backends, unfiltered: Cast, table: str) -> None:
    before = whole(servers, table)
    for statement in (
        "UPDATE {table} SET {tenant} = {tenant} WHERE {tenant} = %s",
        "DELETE FROM {table} WHERE {tenant} = %s",
    ):
        if table in READ_ONLY:
            with pytest.raises(ProgrammingError, match="permission denied"), tenant_scope(unfiltered.globex):
                execute(statement, table, unfiltered.acme.pk)
        else:
            with tenant_scope(unfiltered.globex):
                assert execute(statement, table, unfiltered.acme.pk) == 0
    assert whole(servers, table) == before


@each_table
def test_10_nothing_is_given_to_another(servers: Backends, unfiltered: Cast, table: str) -> None:
    """Neither a row of one's own moved to another tenant, nor a new one made there."""
    before = whole(servers, table)
    generated = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attgenerated = ''"
    names = [row[0] for row in servers.superuser.execute(generated, [table]).fetchall() if "." not in row[0]]
    columns = sql.SQL(", ").join(map(sql.Identifier, names)).as_string()
    copy = (
        f"INSERT INTO {{table}} ({columns}) SELECT {columns} FROM jsonb_populate_record("
        "NULL::{table}, coalesce((SELECT to_jsonb(t) FROM {table} t LIMIT 1), '{{}}') || %s::jsonb)"
    )
    foreign = f'{{"id": "{uuid.uuid4()}", "{column_of(table)}": "{unfiltered.acme.pk}"}}'
    with pytest.raises(DatabaseError, match=REFUSED), tenant_scope(unfiltered.globex):
        execute(copy, table, foreign)
    if before:
        with pytest.raises(DatabaseError, match=REFUSED), tenant_scope(unfiltered.acme):
            execute("UPDATE {table} SET {tenant} = %s", table, unfiltered.globex.pk)
    assert whole(servers, table) == before


@each_table
@pytest.mark.parametrize("left_behind", [False, True])
def test_10_without_a_tenant_each_statement_is_an_error(unfiltered: Cast, table: str, left_behind: bool) -> None:
    if left_behind:  # by an earlier transaction: not a tenant, but not nothing either
        with tenant_scope(unfiltered.acme):
            pass
    else:
        connections.close_all()
        connection.close_pool()  # type: ignore[attr-defined]  # of the PostgreSQL backend
    with pytest.raises((ProgrammingError, DataError), match=r"app\.tenant|uuid"):
        execute("SELECT 1 FROM {table}", table)


def test_10_our_own_queries_find_nothing_either(unfiltered: Cast) -> None:
    with tenant_scope(unfiltered.globex):
        for model in apps.get_models():
            if model._meta.db_table in TABLES:
                assert not model._default_manager.filter(
                    **{column_of(model._meta.db_table): unfiltered.acme.pk}
                ).exists()


def test_10_no_row_refers_to_anothers(unfiltered: Cast) -> None:
    """Where a foreign id was taken from a request, its constraint is checked past all policies, and fails."""
    acme, globex = unfiltered
    with tenant_scope(acme):
        chunk = Chunk.objects.select_related("document").first()
    assert chunk is not None
    with pytest.raises(IntegrityError), tenant_scope(globex):
        execute(
            "INSERT INTO {table} (id, tenant_id, document_id, collection_id, live, position, text, heading, tokens,"
            " digest) VALUES (gen_random_uuid(), %s, %s, %s, false, 1, 'x', '{{}}', 1, 'x')",
            "knowledge_chunk",
            globex.pk,
            chunk.document_id,
            chunk.collection_id,
        )


def test_10_the_search_looks_in_the_scope_s_tenant_alone(unfiltered: Cast) -> None:
    acme, globex = unfiltered
    with tenant_scope(acme):
        chunk = Chunk.objects.filter(live=True).select_related("collection").first()
    assert chunk is not None
    ask = "SELECT id FROM hybrid_passages(%s, %s, NULL, %s, 40, 32, '{}', NULL)"
    values = (chunk.collection.index_id, [chunk.collection_id], chunk.text)

    def found() -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(ask, values)
            return list(cursor.fetchall())

    with tenant_scope(acme):
        assert (chunk.pk,) in found()
    with tenant_scope(globex):
        assert found() == []
    with pytest.raises((ProgrammingError, DataError)), transaction.atomic():
        found()


# --- What a scope leaves behind ---------------------------------------------------------------------------------------


def setting() -> str | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), current_setting('app.tenant', true)")
        return cursor.fetchone()[1] or None


class _ItFailedError(Exception):
    pass


def fail() -> None:
    raise _ItFailedError


def test_10_the_next_borrower_of_a_connection_has_no_tenant(unfiltered: Cast) -> None:
    for end in (bool, fail):
        with suppress(_ItFailedError), tenant_scope(unfiltered.acme):
            assert setting() == str(unfiltered.acme.pk)
            end()
        assert setting() is None
        connections.close_all()
        assert setting() is None


def test_10_scopes_within_scopes_come_back(unfiltered: Cast) -> None:
    acme, globex = unfiltered
    with tenant_scope(acme):
        with tenant_scope(globex):
            assert setting() == str(globex.pk)
        assert setting() == str(acme.pk)
        with suppress(_ItFailedError), tenant_scope(globex):
            fail()
        assert setting() == str(acme.pk)
        with tenant_scope(acme):
            assert setting() == str(acme.pk)
        assert setting() == str(acme.pk)
    assert setting() is None


async def test_10_the_loop_s_connections_keep_no_tenant(unfiltered: Cast) -> None:
    """After success, failure and cancelling in the middle of a statement: 200 borrowers, each of whom sees its own."""
    pids: set[int] = set()

    async def borrow(n: int) -> None:
        tenant = unfiltered[n % 2]
        async with statements.transaction(tenant) as held:
            cursor = await held.execute("SELECT pg_backend_pid(), id FROM tenants_tenant")
            found = await cursor.fetchall()
            pids.add(found[0][0])
            assert [row[1] for row in found] == [tenant.pk]
            if n % 3 == 0:
                fail()
            if n % 3 == 1:
                await held.execute("SELECT pg_sleep(10)")

    async def disturbed(n: int) -> None:
        task = asyncio.create_task(borrow(n))
        await asyncio.wait([task], timeout=0.05)
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        assert outcome is None or isinstance(outcome, _ItFailedError | asyncio.CancelledError)

    for start in range(0, 200, 8):
        await asyncio.gather(*(disturbed(n) for n in range(start, start + 8)))
    pool = await statements._pool()
    async with pool.transaction("SELECT 1") as held:
        cursor = await held.execute("SELECT pg_backend_pid(), current_setting('app.tenant', true)")
        row = await cursor.fetchone()
        assert row is not None
        assert row[1] in (None, "")
        with pytest.raises(psycopg.DataError):
            await held.execute("SELECT 1 FROM tenants_tenant")


async def test_10_cancelled_units_leave_no_tenant(unfiltered: Cast) -> None:
    def sleep(_tenant: Tenant) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.1)")

    for n in range(8):
        task = asyncio.create_task(unit(sleep, unfiltered[n % 2]))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def names(_tenant: Tenant) -> list[str]:
        return [tenant.slug for tenant in Tenant.objects.all()]

    found = await asyncio.gather(*(unit(names, unfiltered[n % 2]) for n in range(16)))
    assert found == [["acme"], ["globex"]] * 8


def test_10_end_users_of_two_tenants_may_share_a_name(unfiltered: Cast) -> None:
    for tenant in unfiltered:
        with tenant_scope(tenant):
            factories.make_end_user(tenant=tenant, external_id="the same")
            assert EndUser.objects.filter(external_id="the same").count() == 1
