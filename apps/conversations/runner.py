"""Runs accepted turns, each as a task of its own: no connection, door or reader ends one but by asking it to stop."""

from __future__ import annotations

import asyncio
import contextvars
import time
import uuid
from contextlib import closing
from dataclasses import replace
from functools import partial

import structlog
from django.db import Error, IntegrityError, InterfaceError, OperationalError

from apps.access.revocation import Watch
from apps.conversations import answering, metrics, turn
from apps.conversations.journal import Kept, journal, key_of
from apps.conversations.log import Log
from apps.conversations.mirror import mirrors
from apps.conversations.models import Turn
from apps.conversations.recording import record
from apps.conversations.running import Running
from apps.edge import tracing
from apps.edge.errors import ServiceUnavailable, translate
from apps.edge.request_ids import current_request_id
from apps.tenants.scoping import unit
from apps.usage import meter
from apps.usage.models import UsageRecord
from chatbot.errors import ModelBusy, ModelUnavailable, NotPermitted, ParleyError
from chatbot.events import START, Cursor, Failed, TurnFinished, TurnStarted

log = structlog.get_logger(__name__)

# How long a finished turn's log is kept for those who come back at once; after that the stored message answers.
LINGER_SECONDS = 60.0
# While Postgres is away, a finished answer is offered to it again after each of these seconds.
SAVE_RETRIES = (0.1, 0.5, 1, 2, 4, *[5] * 120)
CHECKPOINT_SECONDS = 10.0


_running: dict[uuid.UUID, Running] = {}  # keeps the tasks, too: the loop itself holds them weakly


async def start(opened: turn.Opened) -> Log:
    """Run an opened turn; its log has its first event when this returns."""
    log = Log(opened.epoch)
    conversation = str(opened.conversation_id) if opened.conversation_id else None
    log.append(TurnStarted(str(opened.turn_id), conversation, str(opened.question_id)))
    await run(opened, log)
    return log


async def run(opened: turn.Opened, log: Log, *, written: Cursor = START) -> None:
    """Run a turn from where its log stands; the journal has it up to `written`."""
    writer = await journal()
    kept = Kept(key_of(opened.tenant.pk, opened.turn_id), log, written)
    running = Running(opened, log, writer, kept)
    kept.lost = running.leave
    if opened.begun and opened.begun.told:
        running.outcome.text, running.outcome.sources = opened.begun.text, list(opened.begun.sources)
    if opened.epoch > 1:
        kept.last_id = Cursor(opened.epoch, 0)  # the fence
        kept.accepted.set()  # it goes on, whatever Redis says
    _running[opened.turn_id] = running
    writer.keep(running.kept)
    running.task = asyncio.create_task(_run(running), context=contextvars.copy_context())


def log_of(turn_id: uuid.UUID) -> Log | None:
    """The log of a turn that this process runs or lately ran. Whose turn it is, the caller has checked."""
    running = _running.get(turn_id)
    return running.log if running else None


def stop(turn_id: uuid.UUID) -> bool:
    """Ask a turn to end with what it has said. False where it is not running here or has ended by itself."""
    running = _running.get(turn_id)
    if running is None or running.leaving or (running.answering is not None and running.answering.done()):
        return False
    running.stopping = True
    running.end_answer()
    return True


def _refuse(running: Running) -> None:
    running.refused = True
    stop(running.opened.turn_id)


async def _run(running: Running) -> None:
    opened = running.opened
    structlog.contextvars.bind_contextvars(tenant=opened.tenant.slug, turn=str(opened.turn_id))
    watch = Watch(opened.tenant.pk, opened.ends_with, on_end=partial(_refuse, running))
    traced = tracing.span("turn", parley__tenant=opened.tenant.slug, parley__turn=str(opened.turn_id))
    with traced, metrics.RUNNING.track_inprogress(), closing(watch):
        running.answering = asyncio.create_task(answering.answer(running))
        if running.stopping:  # whoever asked left before this task had its first step
            running.answering.cancel()
        # wait() and not await: whatever ends the answer, its turn is closed here.
        while not (await asyncio.wait([running.answering], timeout=CHECKPOINT_SECONDS))[0]:
            if running.noting is None or running.noting.done():
                running.noting = asyncio.create_task(_note(running))
        if not running.leaving:
            _conclude(running, running.answering)
            await _close(running)
    if running.leaving:
        await _leave(running)
    else:
        asyncio.get_running_loop().call_later(LINGER_SECONDS, _running.pop, opened.turn_id, None)


async def _note(running: Running) -> None:
    opened = running.opened
    try:
        if not await unit(turn.keep_partial, opened.tenant, opened.turn_id, opened.epoch, running.outcome):
            running.leave()
    except Error as error:
        log.warning("turn.not_noted", error=type(error).__name__)


async def _leave(running: Running) -> None:
    """Let the turn go on elsewhere: the readers here follow it there."""
    opened = running.opened
    await running.journal.flush(running.kept)
    running.journal.let_go(running.kept)
    del _running[opened.turn_id]
    await (await mirrors()).adopt(opened.tenant.pk, opened.turn_id, running.log)
    log.info("turn.left", epoch=opened.epoch, seq=running.log.last.seq)


def _conclude(running: Running, answered: asyncio.Task[None]) -> None:
    """Name how the answer ended: by itself, by the user, or by an error that may have left a part of it."""
    outcome = running.outcome
    error: ParleyError | None = None
    if answered.cancelled():
        if not running.stopping:
            error = ParleyError()
    elif (raised := answered.exception()) is not None:
        error = translate(raised) if isinstance(raised, Exception) else ParleyError()
    if running.refused and outcome.state == Turn.State.RUNNING:
        # What was said is kept and billed, as after a stop; the readers learn why.
        outcome.error = NotPermitted("Whoever asked this is no longer let in.")
        outcome.state = Turn.State.INTERRUPTED if outcome.text else Turn.State.FAILED
        outcome.bill = UsageRecord.Bill.DELIVERED if outcome.text else UsageRecord.Bill.NONE
    elif error is not None:
        outcome.error = error
        outcome.state = Turn.State.INTERRUPTED if outcome.text else Turn.State.FAILED
        refused = isinstance(error, ModelBusy | ModelUnavailable | ServiceUnavailable) and not outcome.text
        outcome.bill = UsageRecord.Bill.NONE if refused else UsageRecord.Bill.LOSS
    elif outcome.state == Turn.State.RUNNING:
        outcome.state, outcome.finish_reason = Turn.State.STOPPED, "stopped"
        # Who left the line before any model was asked owes nothing.
        asked = outcome.text or outcome.story.attempts
        outcome.bill = UsageRecord.Bill.DELIVERED if asked else UsageRecord.Bill.NONE
    elapsed = (time.perf_counter() - running.started) * 1000
    outcome.timings = replace(outcome.timings, total_ms=round(elapsed, 1))
    outcome.last_seq = running.log.next_seq


async def _close(running: Running) -> None:
    """Store the turn, then tell its readers: nobody sees an end that is not kept."""
    answer_id = uuid.uuid4()
    for delay in (*SAVE_RETRIES, None):
        try:
            if not await _store(running, answer_id):
                running.leaving = True  # taken over, or deleted
                return
            break
        except (OperationalError, InterfaceError) as error:
            log.warning("turn.save_failed", error=type(error).__name__, retry_in=delay)
            if delay is None:
                # The sweeper closes the row when Postgres is back; the readers must not wait for that.
                running.outcome.error = running.outcome.error or ServiceUnavailable(retry_after=5)
                break
            await asyncio.sleep(delay)
        except Error as error:
            _mend(running, error)
    _tell(running, answer_id)


async def _store(running: Running, answer_id: uuid.UUID) -> bool:
    opened, outcome = running.opened, running.outcome
    won = await unit(
        turn.close_turn,
        opened.tenant,
        opened.turn_id,
        opened.epoch,
        outcome,
        conversation_id=opened.conversation_id,
        answer_id=answer_id,
    )
    if outcome.used is not None and not opened.unmetered:
        await meter.settle(opened.tenant, opened.turn_id, outcome.used)
    return won


def _mend(running: Running, error: Error) -> None:
    """Make of what the database refuses something that it takes: an open turn would keep its readers waiting."""
    outcome = running.outcome
    if isinstance(error, IntegrityError) and outcome.endpoint_id:
        outcome.endpoint_id = None  # it was deleted while it answered
        return
    # Its type alone: what it says may quote the answer.
    log.error("turn.not_storable", error=type(error).__name__)
    running.outcome = turn.Outcome(
        state=Turn.State.FAILED, error=ParleyError(), timings=outcome.timings, last_seq=outcome.last_seq
    )


def _tell(running: Running, answer_id: uuid.UUID) -> None:
    opened, outcome = running.opened, running.outcome
    if outcome.error is not None:
        error = outcome.error
        running.log.append(
            Failed(error.code, error.message, str(opened.turn_id), current_request_id(), error.retry_after)
        )
    else:
        running.log.append(
            TurnFinished(
                turn=str(opened.turn_id),
                state=str(outcome.state),
                finish_reason=outcome.finish_reason,
                answer=str(answer_id),
                text=outcome.text,
                usage=outcome.usage,
                citations=outcome.citations,
                timings=outcome.timings,
            )
        )
    running.journal.hurry()
    record(running)


async def drain(timeout: float) -> None:
    """Wait for running turns, at most `timeout` seconds; those that are not done by then are left to others."""
    unfinished = {r.task: r for r in _running.values() if r.task and not r.task.done()}
    if not unfinished:
        return
    _, late = await asyncio.wait(unfinished, timeout=timeout)
    for task in late:
        unfinished[task].leave()
    if late:
        await asyncio.wait(late)
