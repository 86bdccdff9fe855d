"""How a door reads a turn: live from its log where this process runs it, else from what is stored."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

from django.db.models import QuerySet

from apps.access.authentication import Caller
from apps.access.revocation import Watch
from apps.conversations import runner
from apps.conversations.log import Entry
from apps.conversations.models import Turn
from apps.conversations.parties import within_reach
from apps.edge.frames import HEARTBEAT_SECONDS
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from chatbot.errors import NotFound
from chatbot.events import (
    START,
    Cursor,
    Event,
    Failed,
    Restarted,
    Source,
    Sources,
    Timings,
    Token,
    TurnFinished,
    TurnStarted,
    Usage,
)

# How often a turn that another process runs is looked at.
POLL_SECONDS = 0.5
# How often a silent stream looks whether its reader is still let in.
LOOK_SECONDS = 1.0


def turn_of(caller: Caller, turn_id: uuid.UUID, *, user: str = "") -> Turn:
    """A turn within reach, and `user`'s where one is named. Raises NotFound, the same for another's as for none."""
    return _found(within_reach(Turn.objects.all(), caller, user), turn_id)


def _found(rows: QuerySet[Turn], turn_id: uuid.UUID) -> Turn:
    turn = rows.select_related("question", "answer", "endpoint").filter(pk=turn_id).first()
    if turn is None:
        raise NotFound("There is no such turn.")
    return turn


def follow(
    tenant: Tenant, turn_id: uuid.UUID, after: Cursor, *, idle: float | None = None
) -> AsyncIterator[list[Entry]]:
    """The turn's events beyond `after` until its terminal one; an empty list after `idle` seconds of silence.

    The caller has checked whose turn it is.
    """
    log = runner.log_of(turn_id)
    return _stored(tenant, turn_id, after, idle) if log is None else log.follow(after, idle=idle)


async def _stored(tenant: Tenant, turn_id: uuid.UUID, after: Cursor, idle: float | None) -> AsyncIterator[list[Entry]]:
    silent = 0.0
    while (turn := await unit(_turn, tenant, turn_id)).state in Turn.OPEN:
        await asyncio.sleep(POLL_SECONDS)
        silent += POLL_SECONDS
        if idle is not None and silent >= idle:
            silent = 0.0
            yield []
    yield replay(turn, after)


def _turn(tenant: Tenant, turn_id: uuid.UUID) -> Turn:
    return _found(Turn.objects.for_tenant(tenant), turn_id)


def replay(turn: Turn, after: Cursor = START) -> list[Entry]:
    """A closed turn's events from its stored message, for a reader who has seen everything up to `after`.

    What the reader's last token was cannot be known any more, so a partly read answer is begun again.
    """
    end = Cursor(turn.epoch, max(turn.last_seq, 4))
    if after >= end:
        return []
    entries = _entries(turn, end)
    if after > entries[0].cursor:
        restarted = Restarted(epoch=turn.epoch, after=0)
        return [Entry(entries[0].cursor, restarted), *entries]
    return [entry for entry in entries if entry.cursor > after]


def _entries(turn: Turn, end: Cursor) -> list[Entry]:
    events: list[Event] = [
        TurnStarted(str(turn.pk), str(turn.conversation_id) if turn.conversation_id else None, str(turn.question_id)),
        Sources([Source(**source) for source in turn.sources]),
    ]
    if turn.answer and turn.answer.text:
        events.append(Token(turn.answer.text))
    entries = [Entry(Cursor(turn.epoch, seq), event) for seq, event in enumerate(events, start=1)]
    return [*entries, Entry(end, terminal_event(turn))]


def terminal_event(turn: Turn) -> TurnFinished | Failed:
    """The last event of a closed turn."""
    if turn.error_code:
        return Failed(turn.error_code, turn.error_message, str(turn.pk), turn.request_id)
    return TurnFinished(
        turn=str(turn.pk),
        state=turn.state,
        finish_reason=turn.finish_reason,
        answer=str(turn.answer_id or ""),
        text=turn.answer.text if turn.answer else "",
        usage=Usage(turn.prompt_tokens, turn.completion_tokens, turn.usage_estimated),
        citations=[Source(**source) for source in turn.answer.citations] if turn.answer else [],
        timings=Timings(turn.search_ms, turn.first_token_ms, turn.total_ms),
    )


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
        if batch or silent >= HEARTBEAT_SECONDS:
            silent = 0.0
            yield batch


async def last_event(entries: AsyncIterator[list[Entry]]) -> Event:
    """Wait for the turn to end."""
    latest: Sequence[Entry] = ()
    async for batch in entries:
        latest = batch or latest
    return latest[-1].event
