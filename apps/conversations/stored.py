"""A closed turn for readers who come late: word by word while its journal lasts, then as what is stored tells it."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid

from django.db.models import QuerySet
from django.db.models.functions import Now

from apps.conversations import journal
from apps.conversations.log import Entry, Log
from apps.conversations.models import Turn
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

# Whoever ends a turn closes it first and journals its last words with the next tick, which a busy process has late, or
# never: where it dies in between, and where whoever closes it was not the one that ran it.
LATELY = dt.timedelta(seconds=5)  # that a turn is closed; what closes it may have waited for locks, too


def turn_with(tenant: Tenant | uuid.UUID, turn_id: uuid.UUID) -> Turn:
    """A tenant's turn. Raises NotFound."""
    return found(Turn.objects.for_tenant(tenant), turn_id)


def found(rows: QuerySet[Turn], turn_id: uuid.UUID) -> Turn:
    """One of `rows`, with what replay() needs. Raises NotFound, the same for another's as for none."""
    turn = rows.select_related("question", "answer", "endpoint").filter(pk=turn_id).first()
    if turn is None:
        raise NotFound("There is no such turn.")
    return turn


async def told(turn: Turn, after: Cursor) -> list[Entry]:
    """A closed turn's events beyond `after`. Last words that are still to be journaled are waited for."""
    if after >= end_of(turn):
        return []
    pause = 0.0
    while True:
        journaled = Log(turn.epoch, await journal.whole(turn.tenant_id, turn.pk))
        if journal.is_whole(journaled.entries):
            return journaled.entries[journaled.place(after) :]
        if not journaled.entries or journaled.ended or not await unit(_closed_lately, turn):
            return replay(turn, after)
        pause += journal.TICK  # a busy process is not helped by being looked after
        await asyncio.sleep(pause)


def _closed_lately(turn: Turn) -> bool:
    """By the clock that closed it, which need not be this process's."""
    return Turn.objects.for_tenant(turn.tenant_id).filter(pk=turn.pk, closed_at__gt=Now() - LATELY).exists()


def replay(turn: Turn, after: Cursor = START) -> list[Entry]:
    """A closed turn's events, for a reader who has seen everything up to `after`.

    Which words a reader has who saw a part of the answer cannot be known any more: that one begins again.
    """
    end = end_of(turn)
    if after >= end:
        return []
    if after == Cursor(end.epoch, end.seq - 1):
        return [Entry(end, terminal_event(turn))]
    *entries, ending = _entries(turn, end)
    if after == START:
        return [*entries, ending]
    # Until its end the reader stands where it stood: whoever leaves in the middle of this begins again once more.
    again = [Restarted(turn.epoch, after=0, reset=True), *(event for _, event in entries)]
    return [*(Entry(after, event) for event in again), ending]


def end_of(turn: Turn) -> Cursor:
    """Where a closed turn's terminal event stands."""
    return Cursor(turn.epoch, max(turn.last_seq, 4))


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
        timings=Timings(turn.search_ms, turn.first_token_ms, turn.total_ms, turn.degraded),
    )
