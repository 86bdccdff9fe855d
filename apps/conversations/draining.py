"""Lets a web process go without losing an answer: SIGTERM and `manage.py drain` begin it.

First readiness goes off, and what load balancers still send is answered as ever. Then questions are refused and readers
are told to come back, which the other replicas receive. Turns that run may end; what is left of them after
PARLEY_DRAIN_SECONDS is handed over.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import structlog
from django.conf import settings

from apps.conversations import replicas, runner, takeover
from apps.conversations.journal import journal
from apps.edge.errors import ServiceUnavailable
from apps.edge.listening import stop_listening
from chatbot.errors import ParleyError
from chatbot.events import Reconnect

log = structlog.get_logger(__name__)

SPREAD_SECONDS = 2.0  # within which readers are sent away, and come back elsewhere
LAST_SECONDS = 0.3  # for what was said last to leave the process


class _State:
    going: asyncio.Task[None] | None = None
    readers_leave = False
    over = False
    terminate: Any = None  # the server's own handler of SIGTERM


_state = _State()
# Of each open socket: what tells its client to come back elsewhere, and what closes it.
SOCKETS: set[tuple[Callable[[Reconnect], Awaitable[None]], Callable[[ParleyError], Awaitable[None]]]] = set()


def is_ready() -> bool:
    """Whether this process should get traffic."""
    return _state.going is None


def refuse_questions() -> None:
    """Raises ServiceUnavailable once this process accepts no more; readers who come then go elsewhere, too."""
    if _state.readers_leave:
        raise _going()


def word_for_reader() -> Reconnect | None:
    """What a stream ends with, once its reader should come back elsewhere."""
    return _word() if _state.readers_leave else None


def refuse_waiting() -> None:
    """Raises ServiceUnavailable once no turn ends here any more."""
    if _state.over:
        raise ServiceUnavailable("This replica ends before the answer. Another one goes on with it.", retry_after=1)


def _going() -> ParleyError:
    message = "This replica is shutting down; another one answers."
    return ServiceUnavailable(message, retry_after=1, elsewhere=True)


def _word() -> Reconnect:
    return Reconnect(delay=round(random.uniform(0, SPREAD_SECONDS), 2))  # noqa: S311 - not a secret


async def drain() -> None:
    """Let everything here end or go on elsewhere. Called again, it waits for the same."""
    if _state.going is None:
        _state.going = asyncio.ensure_future(_drain())
    await asyncio.shield(_state.going)


async def _drain() -> None:
    log.info("replica.draining")
    lease = await replicas.join(takeover.claim_orphans)
    lease.draining.set()
    await asyncio.sleep(settings.PARLEY_DRAIN_GRACE_SECONDS)
    _state.readers_leave = True
    stop_listening(_state.terminate)
    sent = [asyncio.ensure_future(_send_away(tell)) for tell, _ in SOCKETS]
    await runner.drain(settings.PARLEY_DRAIN_SECONDS)
    _state.over = True
    await (await journal()).flush_all()
    await lease.leave()
    await asyncio.gather(*sent, return_exceptions=True)
    await asyncio.gather(*(close(_going()) for _, close in tuple(SOCKETS)), return_exceptions=True)
    await asyncio.sleep(LAST_SECONDS)
    log.info("replica.drained")


async def _send_away(tell: Callable[[Reconnect], Awaitable[None]]) -> None:
    await asyncio.sleep(random.uniform(0, SPREAD_SECONDS / 2))  # noqa: S311
    await tell(_word())


# --- The process ------------------------------------------------------------------------------------------------------


async def serve() -> None:
    """Be a replica, and drain before the server ends. Called when the server runs, after it has set its own handlers:
    they are called once drained, or at once by a second SIGTERM."""
    loop = asyncio.get_running_loop()
    previous = _state.terminate = signal.getsignal(signal.SIGTERM)
    ending: list[asyncio.Task[None]] = []

    async def end(number: int) -> None:
        try:
            await drain()
        except Exception:
            log.exception("replica.not_drained")
        finally:
            _call(previous, number, None)

    def terminate(number: int, frame: FrameType | None) -> None:
        if ending:
            _call(previous, number, frame)
        else:
            loop.call_soon_threadsafe(lambda: ending.append(loop.create_task(end(number))))

    signal.signal(signal.SIGTERM, terminate)
    lease = await replicas.join(takeover.claim_orphans)
    await lease.draining.wait()
    await drain()


def _call(handler: Any, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
    else:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(signal.Signals(number))
