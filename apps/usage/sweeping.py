"""Brings Redis and the ledger together where a crash came between them. The ledger wins."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import structlog
from django.db.models import Q
from redis.asyncio import Redis

from apps.edge.shared_state import redis
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from apps.usage import meter, scripts
from apps.usage.counters import Book
from apps.usage.ledger import used_by
from apps.usage.limits import limits_of
from apps.usage.models import UsageRecord
from chatbot.quota import Amounts

log = structlog.get_logger(__name__)

# Seconds after which a reservation without a row is nobody's: opening a turn takes milliseconds, and its statements two
# seconds at most.
GRACE: Final = 20.0
AT_ONCE: Final = 1_000


async def sweep() -> int:
    """Settle what the ledger has settled, and give back what it never had; how many reservations."""
    client = await redis()
    seconds, _ = await client.time()
    found: Any = await client.zrangebyscore(scripts.OPEN, "-inf", seconds - GRACE, start=0, num=AT_ONCE)
    theirs: defaultdict[uuid.UUID, list[uuid.UUID]] = defaultdict(list)
    for member in found:
        tenant_id, _, reservation = member.partition("|")
        theirs[uuid.UUID(tenant_id)].append(uuid.UUID(reservation))
    return sum([await _sweep(client, tenant_id, reservations) for tenant_id, reservations in theirs.items()])


async def _sweep(client: Redis, tenant_id: uuid.UUID, reservations: Sequence[uuid.UUID]) -> int:
    tenant = await unit(_tenant, tenant_id)
    if tenant is None:
        await client.zrem(scripts.OPEN, *(f"{tenant_id}|{reservation}" for reservation in reservations))
        return len(reservations)
    book = Book(tenant, await limits_of(tenant))
    ended = await unit(_ended, tenant, reservations)
    for reservation, used in ended.items():
        answer = await meter.tell(client, book, reservation, used)
        log.warning("quota.swept", tenant=tenant.slug, reservation=str(reservation), answer=answer)
    return len(ended)


def _tenant(tenant_id: uuid.UUID) -> Tenant | None:
    return Tenant.objects.filter(pk=tenant_id).first()


def _ended(tenant: Tenant, reservations: Sequence[uuid.UUID]) -> dict[uuid.UUID, Amounts]:
    """What these used, but for those whose work goes on."""
    rows = UsageRecord.objects.for_tenant(tenant).filter(Q(turn_id__in=reservations) | Q(pk__in=reservations))
    known = {row.turn_id or row.pk: row for row in rows}
    return {
        reservation: used_by(known[reservation]) if reservation in known else Amounts()
        for reservation in reservations
        if reservation not in known or known[reservation].state == UsageRecord.State.SETTLED
    }
