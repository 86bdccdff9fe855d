"""Stops a turn, whichever process runs it: here at once, elsewhere by a word on the bus, which is repeated until it is
obeyed. The request is kept in the turn's row, for a process that takes the turn over meanwhile."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from apps.conversations import runner
from apps.conversations.models import Turn
from apps.edge import bus
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit

TOPIC = "turn.stop"
REPEAT_SECONDS = 0.5
REPEATS = 20


async def stop(tenant: Tenant, turn_id: uuid.UUID) -> bool:
    """Ask a turn to end with what it has said, and wait until it has heard; False where it has ended by itself.

    The caller has checked whose turn it is.
    """
    if runner.stop(turn_id):
        return True
    if runner.log_of(turn_id) is not None or not await unit(_mark, tenant, turn_id):
        return False
    for _ in range(REPEATS):
        await asyncio.to_thread(bus.publish, TOPIC, str(turn_id))
        runner.stop(turn_id)  # should this process have taken it over meanwhile
        await asyncio.sleep(REPEAT_SECONDS)
        if not await unit(_is_open, tenant, turn_id):
            break
    return True


def _mark(tenant: Tenant, turn_id: uuid.UUID) -> bool:
    return bool(Turn.objects.for_tenant(tenant).filter(pk=turn_id, state__in=Turn.OPEN).update(stopping=True))


def _is_open(tenant: Tenant, turn_id: uuid.UUID) -> bool:
    return bool(Turn.objects.for_tenant(tenant).filter(pk=turn_id, state__in=Turn.OPEN).exists())


def _hear(turn_id: Any) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # our own word, told in the thread that says it: tasks are ended on their loop alone
        return
    runner.stop(uuid.UUID(turn_id))


bus.subscribe(TOPIC, _hear)
