"""How a door reads a turn, whichever process runs it: live from its log, else from its journal, else as stored."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence

from apps.access.authentication import Caller
from apps.access.revocation import Watch
from apps.conversations import draining, journal, runner, stored
from apps.conversations.log import Entry, Log
from apps.conversations.mirror import mirrors
from apps.conversations.models import Turn
from apps.conversations.parties import within_reach
from apps.edge.frames import HEARTBEAT_SECONDS
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from chatbot.events import Cursor, Event

# How often a silent stream looks whether its reader is still let in.
LOOK_SECONDS = 1.0


def turn_of(caller: Caller, turn_id: uuid.UUID, *, user: str = "") -> Turn:
    """A turn within reach, and `user`'s where one is named. Raises NotFound, the same for another's as for none."""
    return stored.found(within_reach(Turn.objects.all(), caller, user), turn_id)


def follow(
    tenant: Tenant, turn_id: uuid.UUID, after: Cursor, *, idle: float | None = None
) -> AsyncIterator[list[Entry]]:
    """The turn's events beyond `after` until its terminal one; an empty list after `idle` seconds of silence.

    The caller has checked whose turn it is.
    """
    log = runner.log_of(turn_id)
    return _elsewhere(tenant, turn_id, after, idle) if log is None else log.follow(after, idle=idle)


async def _elsewhere(
    tenant: Tenant, turn_id: uuid.UUID, after: Cursor, idle: float | None
) -> AsyncIterator[list[Entry]]:
    turn = await unit(stored.turn_with, tenant, turn_id)
    if turn.state not in Turn.OPEN:
        yield await stored.told(turn, after)
        return
    async for batch in (await mirrors()).follow(tenant.pk, turn_id, after, idle=idle):
        yield batch


def heard(tenant: Tenant, turn_id: uuid.UUID, after: Cursor, watch: Watch) -> AsyncIterator[list[Entry]]:
    """The same for a stream: an empty list after each HEARTBEAT_SECONDS of silence.

    Raises NotAuthenticated once the reader is no longer let in.
    """
    return _heard(follow(tenant, turn_id, after, idle=LOOK_SECONDS), watch)


async def _heard(entries: AsyncIterator[list[Entry]], watch: Watch) -> AsyncIterator[list[Entry]]:
    silent = 0.0
    async for batch in entries:
        watch.refuse_ended()
        silent = 0.0 if batch else silent + LOOK_SECONDS
        if batch or silent >= HEARTBEAT_SECONDS or draining.word_for_reader():
            silent = 0.0
            yield batch


async def so_far(tenant: Tenant, turn_id: uuid.UUID, after: Cursor) -> list[Entry]:
    """What lies beyond `after` by now, and nothing more is waited for but the end of a turn that has just closed.

    The caller has checked whose turn it is.
    """
    if log := runner.log_of(turn_id):
        return log.entries[log.place(after) :]
    turn = await unit(stored.turn_with, tenant, turn_id)
    if turn.state not in Turn.OPEN:
        return await stored.told(turn, after)
    written = Log(turn.epoch, await journal.whole(tenant.pk, turn_id))
    return written.entries[written.place(after) :]


async def last_event(entries: AsyncIterator[list[Entry]]) -> Event:
    """Wait for the turn to end. Raises ServiceUnavailable where this process ends before; `entries` tell of silence."""
    latest: Sequence[Entry] = ()
    async for batch in entries:
        latest = batch or latest
        draining.refuse_waiting()
    return latest[-1].event
