"""verify_audit as an operator types it."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.tenants import audit, audit_chain
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from local import postgres
from tests import factories
from tests.environment import PASSWORDS, POSTGRES_PORT


@pytest.fixture
def acme(database: None) -> Tenant:
    tenant = factories.make_tenant("acme")
    for chain in (tenant, tenant, None):
        audit.record(chain, "key.issued", audit.actor_of_command("issue_key"))
    return tenant


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("verify_audit", *arguments, stdout=out)
    return out.getvalue()


def run_and_fail(*arguments: str) -> str:
    out = StringIO()
    with pytest.raises(SystemExit) as stopped:
        call_command("verify_audit", *arguments, stdout=out)
    assert stopped.value.code == 1
    return out.getvalue()


def tamper(statement: str) -> None:
    with postgres.connect(POSTGRES_PORT, PASSWORDS[postgres.SUPERUSER], postgres.DATABASE) as intruder:
        intruder.execute("SET session_replication_role = replica")
        intruder.execute(statement)


def test_whole_chains_are_told_with_their_heads(acme: Tenant) -> None:
    said = run()
    assert [line.split()[0] for line in said.splitlines()] == ["the", "acme"]
    assert "1 entries" in said
    assert "2 entries" in said
    head = run("--tenant", "acme").split()[-1]
    assert len(head) == 64
    run("--tenant", "acme", "--head", head)


def test_a_changed_entry_is_named(acme: Tenant) -> None:
    tamper("UPDATE tenants_auditentry SET address = '192.0.2.1' WHERE seq = 2")
    assert "entry 2 was changed" in run_and_fail()
    assert "entry" not in run("--tenant", "-").replace("entries", "")


def test_a_chain_written_anew_does_not_hold_the_head_that_was_kept(acme: Tenant) -> None:
    head = run("--tenant", "acme").split()[-1]
    tamper("DELETE FROM tenants_auditentry; DELETE FROM tenants_audithead")
    for _ in range(2):
        audit.record(acme, "key.issued", audit.SYSTEM)
    run("--tenant", "acme")
    assert "entry 2" in run_and_fail("--tenant", "acme", "--head", head)


@pytest.mark.parametrize(
    "arguments", [("--head", "00" * 32), ("--tenant", "acme", "--head", "x"), ("--tenant", "nobody")]
)
def test_what_cannot_be_meant_is_refused(acme: Tenant, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run(*arguments)


def test_a_chain_is_read_in_batches(acme: Tenant) -> None:
    one = "audit_append('system', '', 'Parley', '', 'a.deed', '', '', '', '{}', '')"
    for _ in range(5):
        with tenant_scope(acme), connection.cursor() as cursor:
            cursor.execute(f"SELECT max({one}) FROM generate_series(1, 1000)")
    tamper("UPDATE tenants_auditentry SET previous = '' WHERE seq = 4999")
    said = run_and_fail("--tenant", "acme")
    assert 2 * audit_chain.BATCH < 5_002
    assert "5,002 entries" in said
    assert "entry 4999 does not follow" in said
