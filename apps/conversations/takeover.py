"""Takes over turns whose process is gone: claims each in PostgreSQL, fences its journal, and goes on from what it says.

The claim raises the turn's epoch, and the fence makes Redis refuse what an earlier one still writes: a process that
wakes up late can neither close the turn nor add to it.
"""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from apps.conversations import journal, reopening, runner, turn
from apps.conversations.log import Entry, Log
from apps.conversations.models import Turn
from apps.conversations.replicas import ME
from apps.edge.errors import ServiceUnavailable
from apps.inference import gateway
from apps.tenants import lookups
from apps.tenants.scoping import platform_unit, unit
from apps.tenants.statements import transaction
from apps.usage import meter
from apps.usage.models import UsageRecord
from chatbot.citations import cite
from chatbot.events import START, Cursor, Restarted, Source, Sources, Token, TurnStarted, Usage
from chatbot.tokens import estimate

log = structlog.get_logger(__name__)

AT_ONCE = 8
# A turn that has ended so many processes is not given to another one.
MOST_EPOCHS = 5
_AHEAD = datetime.timedelta(hours=1)  # however the clocks differ

# Two statements: the second one sees what was committed before the first had its lock. In one, PostgreSQL would look
# again at the locked turn alone and not at the process that another claim has given it to.
_LOCK = "SELECT FROM conversations_turn WHERE tenant_id = %(tenant)s AND id = %(turn)s FOR UPDATE SKIP LOCKED"
_CLAIM = """
    UPDATE conversations_turn t SET epoch = t.epoch + 1, replica = %(me)s, claimed_at = now()
    WHERE t.tenant_id = %(tenant)s AND t.id = %(turn)s AND t.state IN ('queued', 'running')
        AND NOT EXISTS (SELECT FROM conversations_replica r WHERE r.id = t.replica)
"""


async def claim_orphans() -> None:
    """Take over whatever turns nobody runs."""
    orphans = await platform_unit(lookups.call, "turns_orphaned", timezone.now() + _AHEAD)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(tenant_id: uuid.UUID, turn_id: uuid.UUID) -> None:
        async with gate:
            try:
                await take_over(tenant_id, turn_id)
            except (OperationalError, InterfaceError) as error:  # it is found again
                log.warning("turn.not_taken_over", error=type(error).__name__)
            except Exception:
                log.exception("turn.not_taken_over")

    await asyncio.gather(*(one(tenant_id, turn_id) for tenant_id, turn_id in orphans))


async def take_over(tenant_id: uuid.UUID, turn_id: uuid.UUID) -> bool:
    """Claim a turn and run it on, or close it where it cannot be run; False where another one claims it."""
    await gateway.pool()  # the endpoints, before the transaction
    async with transaction(tenant_id) as connection:
        which = {"me": ME, "tenant": tenant_id, "turn": turn_id}
        locked = await connection.execute(_LOCK, which)
        if not locked.rowcount or not (await connection.execute(_CLAIM, which)).rowcount:
            return False
        left = await reopening.reopen(connection, tenant_id, turn_id)
    # What is logged and told of it from now on belongs to the request that asked.
    structlog.contextvars.bind_contextvars(tenant=left.tenant.slug, request_id=left.request_id)
    entries = await journal.fence(tenant_id, turn_id, left.epoch)
    log.info("turn.taken_over", turn=str(turn_id), epoch=left.epoch, events=len(entries or ()))
    said = _Said.of(entries) if entries and entries[0].cursor.seq == 1 else _Said((), left.partial, left.sources)
    if left.opened is None or left.stopping or left.epoch > MOST_EPOCHS or said.ended:
        await _close(left, said)
        return True
    opened = replace(left.opened, begun=said.begun(left.opened.begun))
    await runner.run(opened, said.log_for(opened), written=said.last)
    return True


@dataclass(frozen=True, slots=True)
class _Said:
    """What is known of an answer: from its journal, with the events, or from its checkpoint, without."""

    entries: Sequence[Entry]
    text: str
    sources: Sequence[Source]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> _Said:
        kept = kept_of(entries)
        texts = [event.text for _, event in kept if isinstance(event, Token)]
        sources = [event.sources for _, event in kept if isinstance(event, Sources)]
        return cls(entries, "".join(texts), sources[-1] if sources else ())

    @property
    def last(self) -> Cursor:
        return self.entries[-1].cursor if self.entries else START

    @property
    def ended(self) -> bool:
        return bool(self.entries) and self.entries[-1].event.terminal

    def begun(self, earlier: turn.Begun | None) -> turn.Begun | None:
        """What the answer begins with. earlier: with which the turn was opened, if it goes on with another one's."""
        if not self.text:
            return earlier
        paid = earlier.paid if earlier and self.text.startswith(earlier.text) else 0
        return turn.Begun(self.text, self.sources, told=True, paid=paid)

    def log_for(self, opened: turn.Opened) -> Log:
        """The log that the turn goes on with: with what its readers are to forget, if that is known by now."""
        kept = Log(opened.epoch, self.entries)
        if not self.entries:
            conversation = str(opened.conversation_id) if opened.conversation_id else None
            kept.append(Restarted(opened.epoch, after=0, reset=True))
            kept.append(TurnStarted(str(opened.turn_id), conversation, str(opened.question_id)))
            if self.text:
                kept.append(Sources(list(self.sources)))
                kept.append(Token(self.text))
        elif not self.text:
            kept.append(Restarted(opened.epoch, after=1))
        return kept


def kept_of(entries: Sequence[Entry]) -> list[Entry]:
    """What a reader keeps of these."""
    kept: list[Entry] = []
    for entry in entries:
        if isinstance(entry.event, Restarted):
            kept = [one for one in kept if one.cursor.seq <= entry.event.after]
        else:
            kept.append(entry)
    return kept


async def _close(left: reopening.Left, said: _Said) -> None:
    """Keep what was said of a turn that does not go on: whoever asked without a conversation is gone with the process,
    and a stop that came too late for it is obeyed here."""
    outcome = turn.Outcome(text=said.text, sources=list(said.sources), last_seq=said.last.seq + 1)
    _, outcome.citations = cite(said.text, said.sources)
    if left.stopping:
        outcome.state, outcome.finish_reason = Turn.State.STOPPED, "stopped"
        outcome.bill = UsageRecord.Bill.DELIVERED
        outcome.usage = Usage(0, estimate(said.text), estimated=True)
    else:
        outcome.state = Turn.State.INTERRUPTED if said.text else Turn.State.FAILED
        outcome.error = ServiceUnavailable(
            "The process that was answering ended before the answer did. Please ask again."
        )
    await unit(
        turn.close_turn,
        left.tenant,
        left.turn_id,
        left.epoch,
        outcome,
        conversation_id=left.conversation_id,
        answer_id=uuid.uuid4(),
    )
    if outcome.used is not None:
        await meter.settle(left.tenant, left.turn_id, outcome.used)
