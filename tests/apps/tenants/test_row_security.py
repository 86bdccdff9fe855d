"""What migrations build with: protection that can be taken away and put back, and functions that tell no more."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection, connections, transaction
from django.db.migrations.state import ProjectState

from apps.tenants import keys, lookups
from apps.tenants.models import Tenant
from apps.tenants.row_security import BindReferences, Protect
from apps.tenants.scoping import tenant_scope
from tests.factories import make_key, make_member, make_tenant

TALK = ("Conversation", "Message", "Turn", "Feedback", "Share", "Merging", "Attachment", "Attached")
MODELS = [*(("conversations", name) for name in TALK), ("access", "IdempotencyKey")]
as_owner = pytest.mark.django_db(transaction=True, databases=["default", "owner"])
CONSTRAINTS = """
    SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE contype IN ('f', 'u') AND conrelid::regclass::text LIKE 'conversations_%' ORDER BY 1, 2
"""
POLICIES = "SELECT tablename, policyname, roles, cmd, qual, with_check FROM pg_policies ORDER BY 1, 2"
FORCED = "SELECT relname FROM pg_class WHERE relforcerowsecurity AND relrowsecurity ORDER BY 1"


def read(cursor: Any, query: str) -> list[tuple[Any, ...]]:
    cursor.execute(query)
    return list(cursor.fetchall())


@as_owner
def test_protection_can_be_taken_away_and_put_back() -> None:
    owner, state = connections["owner"], ProjectState.from_apps(apps)
    operations = [Protect(app, model) for app, model in MODELS]
    with transaction.atomic("owner"), owner.cursor() as cursor:
        keys_before, forced_before = read(cursor, CONSTRAINTS), read(cursor, FORCED)
        assert any("FOREIGN KEY (tenant_id, end_user_id)" in key for _, key in keys_before)
        with owner.schema_editor(atomic=False) as editor:
            for operation in reversed(operations):
                operation.database_backwards(operation.model_app, editor, state, state)
        assert not [name for (name,) in read(cursor, FORCED) if name.startswith("conversations_")]
        left = [row[0] for row in read(cursor, POLICIES) if row[0].startswith("conversations_")]
        assert left in ([], ["conversations_replica"])  # which is no tenant's, and not protected
        keys_between = read(cursor, CONSTRAINTS)
        assert not [key for _, key in keys_between if "(tenant_id, " in key and "FOREIGN" in key]
        assert [key for _, key in keys_between if key.startswith("FOREIGN KEY (end_user_id) REFERENCES")]
        with owner.schema_editor(atomic=False) as editor:
            for operation in operations:
                operation.database_forwards(operation.model_app, editor, state, state)
                bind = BindReferences(operation.model_app, operation.model)
                bind.database_forwards(operation.model_app, editor, state, state)
        assert (read(cursor, CONSTRAINTS), read(cursor, FORCED)) == (keys_before, forced_before)
        transaction.set_rollback(True, using="owner")


def test_a_key_is_found_in_every_tenant_and_told_by_its_id_alone(db: None) -> None:
    acme, globex = make_tenant("acme"), make_tenant("globex")
    parts = keys.parse(make_key(tenant=globex))
    assert parts is not None
    found = lookups.key_of(parts.key_id)
    assert found is not None
    assert (found.tenant_id, found.digest) == (globex.pk, keys.digest(parts.secret))
    assert lookups.key_of("nobody") is None
    assert set(lookups.all_tenants()) == {acme.pk, globex.pk}
    assert lookups.tenant_named("acme") == acme.pk
    assert lookups.tenant_named("' OR true") is None
    assert lookups.find_tenant("globex") == globex


def test_memberships_and_keys_are_found_by_their_user(db: None) -> None:
    acme, globex = make_tenant("acme"), make_tenant("globex")
    alice = make_member(tenant=acme)
    with tenant_scope(globex):
        membership = alice.memberships.create(tenant=globex)
        key, _ = keys.issue(globex, name="hers", scopes=["chat:read"], created_by=alice)
    assert [found.tenant_id for found in lookups.memberships_of(alice.pk)] == [acme.pk, globex.pk]
    assert lookups.memberships_of(alice.pk)[1].id == membership.pk
    assert lookups.keys_of(alice.pk) == [(globex.pk, key.pk)]
    assert lookups.memberships_of(uuid.uuid4()) == []


def test_a_temporary_table_of_the_caller_is_not_read(db: None) -> None:
    acme = make_tenant("acme")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE tenants_tenant (id uuid, slug text)")
        cursor.execute("INSERT INTO pg_temp.tenants_tenant VALUES (gen_random_uuid(), 'acme')")
    assert lookups.tenant_named("acme") == acme.pk


def test_two_tenants_never_share_a_slug(db: None) -> None:
    make_tenant("acme")
    with pytest.raises(ValidationError, match="already exists"):
        Tenant(slug="acme", name="Another").full_clean()
    with pytest.raises(DatabaseError), transaction.atomic():
        make_tenant("acme")
