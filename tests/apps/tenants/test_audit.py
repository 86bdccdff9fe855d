"""The audit log: chained by hashes, kept with the deed, and found out when somebody tampers with it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from django.db import connections, transaction

from apps.tenants import audit, audit_chain
from apps.tenants.models import PLATFORM, AuditEntry, AuditHead, Tenant
from apps.tenants.scoping import tenant_scope
from local import postgres
from tests import factories
from tests.environment import PASSWORDS, POSTGRES_PORT

ALICE = audit.Actor("user", str(uuid.UUID(int=7)), "Alice", "203.0.113.7")


@pytest.fixture
def acme(database: None) -> Tenant:
    return factories.make_tenant("acme")


@pytest.fixture
def intruder(database: None) -> Iterator[psycopg.Connection]:
    """Somebody who got hold of the whole database and can switch triggers off."""
    with postgres.connect(POSTGRES_PORT, PASSWORDS[postgres.SUPERUSER], postgres.DATABASE) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


def deeds(tenant: Tenant | None, number: int) -> None:
    for _ in range(number):
        audit.record(tenant, "key.issued", ALICE, scopes=["chat:read"])


def entries(chain: uuid.UUID) -> list[AuditEntry]:
    with tenant_scope(chain):
        return list(AuditEntry.objects.for_tenant(chain).order_by("seq"))


def test_an_entry_says_who_did_what_to_which_row_from_where(acme: Tenant) -> None:
    user = factories.make_member(tenant=acme, email="bob@acme.example")
    with tenant_scope(acme):
        audit.record(acme, "member.role_changed", ALICE, user.memberships.get(), old="owner", new="editor")
    (entry,) = entries(acme.pk)
    assert (entry.seq, entry.actor_label, entry.address, entry.action) == (
        1,
        "Alice",
        "203.0.113.7",
        "member.role_changed",
    )
    assert (entry.row_type, entry.row_label) == ("tenants.membership", "bob@acme.example")
    assert entry.facts == {"old": "owner", "new": "editor"}


def test_entries_are_numbered_and_chained_for_each_tenant(acme: Tenant) -> None:
    globex = factories.make_tenant("globex")
    for chain in (acme, globex, None, acme, acme, None):
        deeds(chain, 1)
    for chain_id, length in ((acme.pk, 3), (globex.pk, 1), (PLATFORM, 2)):
        found = entries(chain_id)
        assert [entry.seq for entry in found] == list(range(1, length + 1))
        assert [bytes(entry.previous) for entry in found] == [b"", *(bytes(entry.hash) for entry in found[:-1])]
        assert audit_chain.verify(chain_id) == audit_chain.Verdict(length, bytes(found[-1].hash))


def test_a_deed_that_is_undone_leaves_no_entry(acme: Tenant) -> None:
    with transaction.atomic():
        deeds(acme, 1)
        transaction.set_rollback(True)
    deeds(acme, 1)
    assert [entry.seq for entry in entries(acme.pk)] == [1]


def test_writers_at_the_same_time_do_not_fork_the_chain(acme: Tenant) -> None:
    def write() -> None:
        try:
            deeds(acme, 10)
        finally:
            connections.close_all()

    writers = [threading.Thread(target=write) for _ in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    verdict = audit_chain.verify(acme.pk)
    assert (verdict.length, verdict.bad) == (60, None)


RENAME = "UPDATE tenants_auditentry SET actor_label = 'Bob' WHERE seq = 3"
HASH_ANEW = "UPDATE tenants_auditentry e SET hash = audit_hash(e) WHERE seq = 3"
# The unique numbers pass through negative ones.
EXCHANGE = """
    UPDATE tenants_auditentry SET seq = -seq WHERE seq IN (2, 4);
    UPDATE tenants_auditentry SET seq = 6 + seq WHERE seq < 0
"""
ADD_BEHIND = """
    INSERT INTO tenants_auditentry
    SELECT (jsonb_populate_record(e, jsonb_build_object('id', gen_random_uuid(), 'seq', 6))).*
    FROM tenants_auditentry e WHERE seq = 5
"""


@pytest.mark.parametrize(
    ("tampering", "bad"),
    [
        (RENAME, 3),
        (f"{RENAME}; {HASH_ANEW}", 4),  # that entry is right again, and the next one's predecessor is not
        ("UPDATE tenants_auditentry SET facts = '{}' WHERE seq = 3", 3),
        ("UPDATE tenants_auditentry SET at = at - interval '1 day' WHERE seq = 3", 3),
        ("UPDATE tenants_auditentry SET action = '', actor_label = actor_label || action WHERE seq = 3", 3),
        ("DELETE FROM tenants_auditentry WHERE seq = 3", 3),
        ("DELETE FROM tenants_auditentry WHERE seq = 1", 1),
        ("DELETE FROM tenants_auditentry WHERE seq >= 4", 4),
        ("DELETE FROM tenants_auditentry", 1),
        ("DELETE FROM tenants_audithead", 1),
        ("UPDATE tenants_audithead SET seq = 4", 4),
        (EXCHANGE, 2),
        (ADD_BEHIND, 6),
    ],
)
def test_tampering_is_found(acme: Tenant, intruder: psycopg.Connection, tampering: str, bad: int) -> None:
    deeds(acme, 5)
    assert audit_chain.verify(acme.pk).bad is None
    intruder.execute(tampering)
    found = audit_chain.verify(acme.pk).bad
    assert found is not None
    assert found[0] == bad


def test_a_head_that_was_noted_finds_a_tail_cut_off_together_with_the_head(
    acme: Tenant, intruder: psycopg.Connection
) -> None:
    deeds(acme, 5)
    noted = audit_chain.verify(acme.pk).head
    intruder.execute("DELETE FROM tenants_auditentry WHERE seq = 5")
    intruder.execute("UPDATE tenants_audithead h SET seq = 4, hash = e.hash FROM tenants_auditentry e WHERE e.seq = 4")
    assert audit_chain.verify(acme.pk).bad is None
    assert audit_chain.verify(acme.pk, noted).bad is not None


def test_a_head_that_was_noted_stays_good_while_the_chain_grows(acme: Tenant) -> None:
    deeds(acme, 2)
    noted = audit_chain.verify(acme.pk).head
    deeds(acme, 2)
    assert audit_chain.verify(acme.pk, noted).bad is None
    assert audit_chain.verify(acme.pk, b"\1" * 32).bad is not None


def test_the_log_outlives_its_tenant(acme: Tenant) -> None:
    deeds(acme, 2)
    chain = acme.pk
    acme.delete()
    assert audit_chain.verify(chain).length == 2
    assert chain in audit_chain.chains()


def test_texts_and_rows_are_no_facts(acme: Tenant) -> None:
    with pytest.raises(TypeError):
        audit.record(acme, "key.issued", ALICE, row=None, whole=acme)
    audit.record(acme, "key.issued", ALICE, said="a\0" + "x" * 1_000)
    (entry,) = entries(acme.pk)
    assert entry.facts["said"] == "a" + "x" * (audit.WORD_CHARS - 1)


def test_a_conversation_is_not_called_by_what_was_asked(acme: Tenant) -> None:
    assistant = factories.make_assistant(tenant=acme)
    conversation = factories.make_conversation(tenant=acme, assistant=assistant, title="Am I ill?")
    assert audit.label_of(conversation) == ""
    assert AuditHead.objects.count() == 0
