"""The app's role adds to the audit log by one function, and changes, removes or forges nothing in it."""

from __future__ import annotations

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction

from apps.tenants import audit, audit_chain
from apps.tenants.models import AuditEntry, Tenant
from apps.tenants.scoping import tenant_scope
from local import postgres
from tests import factories
from tests.environment import PASSWORDS, POSTGRES_PORT

WRITES = [
    "UPDATE tenants_auditentry SET action = 'nothing'",
    "DELETE FROM tenants_auditentry",
    "TRUNCATE tenants_auditentry",
    "TRUNCATE tenants_auditentry, tenants_audithead",
    "INSERT INTO tenants_auditentry SELECT * FROM tenants_auditentry",
    "UPDATE tenants_audithead SET seq = 0",
    "DELETE FROM tenants_audithead",
    "INSERT INTO tenants_audithead SELECT gen_random_uuid(), 1, ''",
    "ALTER TABLE tenants_auditentry DISABLE TRIGGER append_only",
    "DROP TRIGGER append_only ON tenants_auditentry",
    "DROP TABLE tenants_auditentry",
    "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
    "SET session_replication_role = replica",
    "GRANT UPDATE ON tenants_auditentry TO CURRENT_USER",
]


@pytest.fixture
def acme(database: None) -> Tenant:
    tenant = factories.make_tenant("acme")
    audit.record(tenant, "key.revoked", audit.SYSTEM)
    return tenant


def role() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        return str(cursor.fetchone()[0])


@pytest.mark.parametrize("statement", WRITES)
def test_the_apps_role_changes_nothing(acme: Tenant, statement: str) -> None:
    assert role() == postgres.APP
    with pytest.raises(DatabaseError, match=r"permission denied|must be owner"), tenant_scope(acme):
        _execute(statement)
    assert audit_chain.verify(acme.pk).bad is None
    assert audit_chain.verify(acme.pk).length == 1


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        cursor.execute("SELECT has_table_privilege('tenants_auditentry', 'UPDATE')")
        if not cursor.fetchone()[0]:
            # A GRANT of what one does not have is a warning only.
            raise DatabaseError("permission denied")


@pytest.mark.parametrize("statement", WRITES[:3])
def test_not_even_the_owner_does_so_by_mistake(acme: Tenant, statement: str) -> None:
    owner = f"host=127.0.0.1 port={POSTGRES_PORT} user={postgres.OWNER} password={PASSWORDS[postgres.OWNER]}"
    with psycopg.connect(f"{owner} dbname={postgres.DATABASE}") as as_owner:
        as_owner.execute("SELECT set_config('app.tenant', %s, true)", [str(acme.pk)])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only added to"):
            as_owner.execute(statement)


def test_the_orm_is_refused_as_well(acme: Tenant) -> None:
    with tenant_scope(acme):
        entry = AuditEntry.objects.for_tenant(acme).get()
    with pytest.raises(DatabaseError), tenant_scope(acme):
        entry.save()
    with pytest.raises(DatabaseError), tenant_scope(acme):
        entry.delete()


def test_an_entry_cannot_be_put_into_another_tenants_chain(acme: Tenant) -> None:
    """The chain is the scope's, whatever is said; without a scope there is none."""
    append = "SELECT audit_append('user', '', 'Alice', '', 'key.issued', '', '', '', '{}', '')"
    with pytest.raises(DatabaseError), transaction.atomic():
        _execute(append)
    globex = factories.make_tenant("globex")
    with tenant_scope(globex), connection.cursor() as cursor:
        cursor.execute(append)
    assert (audit_chain.verify(acme.pk).length, audit_chain.verify(globex.pk).length) == (1, 1)
