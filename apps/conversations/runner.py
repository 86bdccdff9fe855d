"""Runs accepted turns, each as a task of its own: no connection, door or reader ends one but by asking it to stop."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

import structlog
from django.db import Error, IntegrityError, InterfaceError, OperationalError

from apps.access.revocation import Watch
from apps.conversations import answering, metrics, turn
from apps.conversations.log import Log
from apps.conversations.models import Turn
from apps.edge.errors import ServiceUnavailable, translate
from apps.edge.request_ids import current_request_id
from apps.tenants.scoping import unit
from apps.usage.models import UsageRecord
from chatbot.errors import ModelBusy, ModelUnavailable, NotFound, NotPermitted, ParleyError
from chatbot.events import Failed, TurnFinished, TurnStarted

log = structlog.get_logger(__name__)

# This process, as turns name it.
REPLICA = uuid.uuid4()
# How long a finished turn's log is kept for those who come back at once; after that the stored message answers.
LINGER_SECONDS = 60.0
# While Postgres is away, a finished answer is offered to it again after each of these seconds.
SAVE_RETRIES = (0.1, 0.5, 1, 2, 4, 8, 15, 15, 15)


@dataclass(slots=True)
class Running:
    """A turn of this process, running or lately ended."""

    opened: turn.Opened
    log: Log
    outcome: turn.Outcome = field(default_factory=turn.Outcome)
    started: float = field(default_factory=time.perf_counter)
    stopping: bool = False
    refused: bool = False  # stopped because whoever asked is no longer let in
    answering: asyncio.Task[None] | None = None  # ends with the last token, or when the turn is stopped
    task: asyncio.Task[None] | None = None  # ends when the turn is stored and its readers know


_running: dict[uuid.UUID, Running] = {}  # keeps the tasks, too: the loop itself holds them weakly


def start(opened: turn.Opened) -> Log:
    """Run an opened turn; its log has its first event when this returns."""
    running = Running(opened, Log(opened.epoch))
    _running[opened.turn_id] = running
    conversation = str(opened.conversation_id) if opened.conversation_id else None
    running.log.append(TurnStarted(str(opened.turn_id), conversation, str(opened.question_id)))
    running.task = asyncio.create_task(_run(running))
    return running.log


def log_of(turn_id: uuid.UUID) -> Log | None:
    """The log of a turn that this process runs or lately ran. Whose turn it is, the caller has checked."""
    running = _running.get(turn_id)
    return running.log if running else None


def stop(turn_id: uuid.UUID) -> bool:
    """Ask a turn to end with what it has said. False where it is not running here or has ended by itself."""
    running = _running.get(turn_id)
    if running is None or (running.answering is not None and running.answering.done()):
        return False
    running.stopping = True
    if running.answering is not None:
        running.answering.cancel()
    return True


def _refuse(running: Running) -> None:
    running.refused = True
    stop(running.opened.turn_id)


async def _run(running: Running) -> None:
    opened, outcome = running.opened, running.outcome
    structlog.contextvars.bind_contextvars(turn=str(opened.turn_id))
    watch = Watch(opened.tenant.pk, opened.ends_with, on_end=partial(_refuse, running))
    with metrics.RUNNING.track_inprogress(), closing(watch):
        running.answering = asyncio.create_task(answering.answer(opened, outcome, running.log, running.started))
        if running.stopping:  # whoever asked left before this task had its first step
            running.answering.cancel()
        # wait() and not await: whatever ends the answer, its turn is closed here.
        await asyncio.wait([running.answering])
        _conclude(running, running.answering)
        await _close(running)
    asyncio.get_running_loop().call_later(LINGER_SECONDS, _running.pop, opened.turn_id, None)


def _conclude(running: Running, answered: asyncio.Task[None]) -> None:
    """Name how the answer ended: by itself, by the user, or by an error that may have left a part of it."""
    outcome = running.outcome
    error: ParleyError | None = None
    if answered.cancelled():
        if not running.stopping:
            error = ServiceUnavailable("This replica is shutting down.", retry_after=1)
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
        refused = isinstance(error, ModelBusy | ModelUnavailable) and not outcome.text
        outcome.bill = UsageRecord.Bill.NONE if refused else UsageRecord.Bill.LOSS
    elif outcome.state == Turn.State.RUNNING:
        outcome.state, outcome.finish_reason = Turn.State.STOPPED, "stopped"
        outcome.bill = UsageRecord.Bill.DELIVERED
    elapsed = (time.perf_counter() - running.started) * 1000
    outcome.timings = replace(outcome.timings, total_ms=round(elapsed, 1))
    outcome.last_seq = running.log.next_seq


async def _close(running: Running) -> None:
    """Store the turn, then tell its readers: nobody sees an end that is not kept."""
    answer_id = uuid.uuid4()
    for delay in (*SAVE_RETRIES, None):
        try:
            if not await _store(running, answer_id):
                running.outcome.error = NotFound("This turn was taken over or deleted; what was said here is not kept.")
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
    opened = running.opened
    return await unit(
        turn.close_turn,
        opened.tenant,
        opened.turn_id,
        opened.epoch,
        running.outcome,
        conversation_id=opened.conversation_id,
        answer_id=answer_id,
    )


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
    reason = outcome.error.code if outcome.error else outcome.finish_reason
    metrics.TURNS.labels(str(outcome.state), reason).inc()
    metrics.TOKENS.labels("prompt").inc(outcome.usage.prompt_tokens)
    metrics.TOKENS.labels("completion").inc(outcome.usage.completion_tokens)
    log.info(
        "turn.finished",
        state=str(outcome.state),
        finish_reason=outcome.finish_reason,
        error=outcome.error.code if outcome.error else None,
        tokens=outcome.usage.total_tokens,
        sources=len(outcome.sources),
        ttft_ms=outcome.timings.first_token_ms,
        ms=outcome.timings.total_ms,
    )


async def drain(timeout: float) -> None:
    """Wait for running turns, at most `timeout` seconds; those that are not done by then are ended as they stand."""
    unfinished = {r.task: r for r in _running.values() if r.task and not r.task.done()}
    if not unfinished:
        return
    _, late = await asyncio.wait(unfinished, timeout=timeout)
    for task in late:
        if answering := unfinished[task].answering:
            answering.cancel()
    if late:
        await asyncio.wait(late)
