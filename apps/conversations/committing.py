"""Commits turns, also where the connection breaks before PostgreSQL says that it heard the COMMIT: then one looks."""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import Awaitable, Callable

import structlog
from django.db import InterfaceError, OperationalError

from apps.conversations.turn import Opened
from apps.tenants.models import Tenant
from apps.tenants.pool import Connection
from apps.tenants.statements import transaction

log = structlog.get_logger(__name__)

LOOKS_EVERY = 5.0  # seconds, until PostgreSQL is there to tell

_KEPT = "SELECT FROM conversations_turn WHERE tenant_id = %s AND id = %s"
# Of a process that never was: whoever finds it takes it over (takeover.py).
_LET_GO = """
    UPDATE conversations_turn SET replica = gen_random_uuid()
    WHERE tenant_id = %s AND id = %s AND state IN ('queued', 'running') AND epoch = 1
"""
_doubts: set[asyncio.Task[None]] = set()  # the loop itself holds them weakly


async def commit(
    tenant: Tenant, work: Callable[[Connection], Awaitable[Opened | uuid.UUID | None]]
) -> Opened | uuid.UUID | None:
    """What `work` writes, in a transaction. Raises as it does, and as transaction() does."""
    written: Opened | uuid.UUID | None = None
    try:
        async with transaction(tenant) as connection:
            written = await work(connection)
    except (OperationalError, InterfaceError):
        if not isinstance(written, Opened) or not await _was_kept(written):
            raise
    return written


async def _was_kept(opened: Opened) -> bool:
    try:
        async with transaction(opened.tenant) as connection:
            kept = bool((await connection.execute(_KEPT, (opened.tenant.pk, opened.turn_id))).rowcount)
    except (OperationalError, InterfaceError):
        kept = False
    if not kept:  # yet: PostgreSQL is away, or has not come to the COMMIT
        doubt = asyncio.get_running_loop().create_task(_let_go(opened), context=contextvars.Context())
        _doubts.add(doubt)
        doubt.add_done_callback(_doubts.discard)
    return kept


async def _let_go(opened: Opened) -> None:
    """Whoever asked was told that it failed. Should the turn be there, this process, which lives, does not run it."""
    while True:
        await asyncio.sleep(LOOKS_EVERY)
        try:
            async with transaction(opened.tenant) as connection:
                found = (await connection.execute(_LET_GO, (opened.tenant.pk, opened.turn_id))).rowcount
        except (OperationalError, InterfaceError):
            continue
        if found:
            log.warning("turn.committed_unheard", tenant=opened.tenant.slug, turn=str(opened.turn_id))
        return
