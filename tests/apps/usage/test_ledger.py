"""The ledger settles a turn once, and bills nothing for what was not delivered."""

from __future__ import annotations

import asyncio
import uuid
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.tenants import statements
from apps.tenants.models import EndUser
from apps.tenants.scoping import platform_unit, tenant_scope, unit
from apps.usage import ledger
from apps.usage.models import UsageRecord
from chatbot.events import Usage
from chatbot.quota import Amounts
from tests import factories


async def reserve(end_user: EndUser, turn_id: uuid.UUID) -> None:
    async with statements.transaction(end_user.tenant) as connection:
        await ledger.reserve(
            connection,
            end_user.tenant,
            turn_id=turn_id,
            end_user=end_user,
            api_key_id=None,
            oauth_client_id=None,
            assistant_id=uuid.uuid4(),
            amounts=Amounts(),
            created=timezone.now(),
        )


@pytest.mark.parametrize(
    ("bill", "tokens"), [("once", (7, 5)), ("delivered", (7, 5)), ("loss", (0, 0)), ("none", (0, 0))]
)
def test_what_each_bill_charges(database: None, bill: str, tokens: tuple[int, int]) -> None:
    tenant = factories.make_tenant()
    turn_id = uuid.uuid4()
    async_to_sync(reserve)(factories.make_end_user(tenant=tenant), turn_id)
    with tenant_scope(tenant):
        assert ledger.settle(tenant, turn_id=turn_id, bill=bill, usage=Usage(7, 5), endpoint_id=None)
    row = UsageRecord.objects.get()
    assert (row.prompt_tokens, row.completion_tokens) == tokens


@pytest.mark.parametrize(("bill", "cost"), [("once", "0.00000850"), ("loss", "0")])
def test_tokens_cost_what_the_endpoint_asks_for_a_million(database: None, bill: str, cost: str) -> None:
    tenant = factories.make_tenant()
    endpoint = factories.make_endpoint(model="m", prompt_price=Decimal("0.5"), completion_price=1)
    turn_id = uuid.uuid4()
    async_to_sync(reserve)(factories.make_end_user(tenant=tenant), turn_id)
    with tenant_scope(tenant):
        ledger.settle(tenant, turn_id=turn_id, bill=bill, usage=Usage(7, 5), endpoint_id=endpoint.pk)
    row = UsageRecord.objects.get()
    assert (row.model, row.cost) == ("m", Decimal(cost))


async def test_many_settlers_at_once_settle_once(database: None) -> None:
    tenant = await platform_unit(factories.make_tenant)
    end_user = await platform_unit(lambda: factories.make_end_user(tenant=tenant))
    for _ in range(10):
        turn_id = uuid.uuid4()
        await reserve(end_user, turn_id)
        settled = await asyncio.gather(
            *(
                unit(ledger.settle, tenant, turn_id=turn_id, bill="once", usage=Usage(n, n), endpoint_id=None)
                for n in range(6)
            )
        )
        assert len([one for one in settled if one]) == 1


def test_another_tenant_cannot_settle(database: None) -> None:
    tenant, other = factories.make_tenant(), factories.make_tenant()
    turn_id = uuid.uuid4()
    async_to_sync(reserve)(factories.make_end_user(tenant=tenant), turn_id)
    with tenant_scope(other):
        assert not ledger.settle(other, turn_id=turn_id, bill="once", usage=Usage(1, 1), endpoint_id=None)


def test_a_turn_has_one_row(database: None) -> None:
    tenant = factories.make_tenant()
    end_user, turn_id = factories.make_end_user(tenant=tenant), uuid.uuid4()
    async_to_sync(reserve)(end_user, turn_id)
    with pytest.raises(IntegrityError):
        async_to_sync(reserve)(end_user, turn_id)


def test_the_database_refuses_a_half_settled_row(database: None) -> None:
    tenant = factories.make_tenant()
    async_to_sync(reserve)(factories.make_end_user(tenant=tenant), uuid.uuid4())
    with pytest.raises(IntegrityError), transaction.atomic():
        UsageRecord.objects.update(state="settled")
