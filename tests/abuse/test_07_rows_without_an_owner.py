"""No row is without an owner, and what belongs to nobody in particular is not shown to those who are somebody."""

from __future__ import annotations

from django.db import connection

from apps.conversations.models import Turn
from apps.tenants import audit, statements
from apps.tenants.models import AuditEntry
from apps.tenants.scoping import platform_unit
from tests import factories
from tests.abuse.conftest import bearer, send
from tests.apps.access.visiting import SHOP, token_for
from tests.apps.conversations.conftest import Api, World

# Whether a column that names an owner may be empty: nowhere, but where the row says itself why.
OWNERS = """
    SELECT c.table_name || '.' || c.column_name FROM information_schema.columns c
    JOIN information_schema.tables t USING (table_schema, table_name)
    WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.is_nullable = 'YES'
      AND c.column_name IN ('tenant_id', 'end_user_id')
"""
# Embeddings that a program asks for may name nobody; the tenant is billed, and roll-ups repeat it. A key of a request
# that concerns no end user is the tenant's.
NOBODYS = {
    "usage_usagerecord.end_user_id",
    "usage_dailyusagebyuser.end_user_id",
    "usage_dailyuser.end_user_id",
    "usage_monthlyuser.end_user_id",
    "conversations_idempotencykey.end_user_id",
}


def test_no_row_can_be_without_an_owner(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(OWNERS)
        assert {name for (name,) in cursor.fetchall()} == NOBODYS


async def test_a_visitor_does_not_see_what_nobody_in_particular_asked(world: World, api: Api) -> None:
    said = await api.post(
        "/v1/chat/completions",
        {"model": "guide", "messages": [{"role": "user", "content": "pump?"}]},
        content_type="application/json",
    )
    assert said.status_code == 200
    turn = await platform_unit(lambda: str(Turn.objects.get().pk))
    headers = bearer(await token_for(world, user="zoe")) | {b"origin": SHOP.encode()}
    assert (await send("GET", f"/api/v1/turns/{turn}", headers)).status == 404
    assert (await send("GET", f"/api/v1/turns/{turn}", bearer(world.key))).status == 200


async def test_a_tenant_does_not_see_the_platforms_entries(database: None) -> None:
    tenant = await platform_unit(factories.make_tenant)
    await platform_unit(audit.record, None, "user.deactivated", audit.SYSTEM)
    await platform_unit(audit.record, tenant, "tenant.created", audit.SYSTEM)
    async with statements.transaction(tenant) as connection:
        found = await connection.execute(f"SELECT tenant_id FROM {AuditEntry._meta.db_table}")
        assert await found.fetchall() == [(tenant.pk,)]
