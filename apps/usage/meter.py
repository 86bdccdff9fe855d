"""Reserves before work begins, settles when it ends: one step in Redis each, over all limits at once or none.

The ledger is right, and Redis is quick: what Redis has lost is rebuilt from the ledger (rebuilding.py), and what a
crash left between the two is swept (sweeping.py). While Redis is away nothing is admitted, so nothing is unmetered.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import uuid
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from django.db import Error as DatabaseError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from apps.edge.errors import ServiceUnavailable
from apps.edge.ratelimit_headers import Limit as Told
from apps.edge.shared_state import reachable, redis
from apps.tenants.models import Tenant
from apps.usage import metrics, rebuilding, remembering, scripts
from apps.usage.counters import Book, Counter
from apps.usage.limits import Accounts, limits_of
from apps.usage.refusals import refusal
from apps.usage.standing import EVERYBODY, told
from chatbot.errors import ParleyError
from chatbot.quota import Amounts

log = structlog.get_logger(__name__)

SECONDS: Final = 0.5  # that Redis may take: somebody waits
TRIES: Final = 5  # as often as clocks and generations may change under one question
NOTHING: Final = Amounts()
LEAST: Final = Amounts(requests=1, tokens=1, turns=1)  # that a question asks for


@dataclass(frozen=True, slots=True)
class Reserved:
    """What was reserved. at: when, by Redis' clock: the ledger's row has the same moment, so that both count it in the
    same windows. None where nothing is limited. standing: what is left then, as a client is told. unmetered: Redis
    did not say whether the limits allow it."""

    amounts: Amounts
    at: dt.datetime | None = None
    standing: Sequence[Told] = ()
    unmetered: bool = False


async def reserve(
    tenant: Tenant, reservation: uuid.UUID, accounts: Accounts, asked: Amounts, *, levels: Container[str] = EVERYBODY
) -> Reserved:
    """Take `asked` from all limits of these accounts, or from none. levels: of which ones' limits may be told.

    Raises QuotaExceeded or RateLimited, for the limit that leaves the longest wait, or ServiceUnavailable while Redis
    is away. Not awaited inside a transaction, for it may take SECONDS several times: opening.py lets it run as a task,
    and waits for it no longer than HELD_SECONDS within one.
    """
    book = Book(tenant, await limits_of(tenant))
    limits = book.limits.of(accounts)
    if not limits:
        return Reserved(asked)
    with reachable():
        client = await redis()
        for _ in range(TRIES):
            counters = [book.counter(limit, _clock.now()) for limit in limits]
            answer = await _ask(client, book, counters, asked, str(reservation))
            match answer[0]:
                case "ok":
                    _clock.learn(float(answer[1]))
                    at = dt.datetime.fromtimestamp(float(answer[1]), dt.UTC)
                    return Reserved(asked, at, told(counters, "".join(answer[2:]), levels))
                case "no":
                    remembering.remember(tenant, accounts, limits[answer[2] - 1])
                    raise _refusal(tenant, counters, asked, answer, levels)
                case "clock":
                    _clock.learn(float(answer[1]))
                case "missing":
                    await rebuilding.rebuild(client, book, [counters[index - 1] for index in answer[1:]])
                case _:
                    await rebuilding.begin(client, book)
    raise ServiceUnavailable(retry_after=1)


async def look(tenant: Tenant, accounts: Accounts, *, levels: Container[str] = EVERYBODY) -> None:
    """Refuse what reserve() would refuse whatever a question asks for, with one step in Redis that changes nothing.

    Raises QuotaExceeded or RateLimited. That it does not says nothing: reserve() decides.
    """
    book = Book(tenant, await limits_of(tenant))
    limits = [limit for limit in book.limits.of(accounts) if remembering.tells(limit)]
    if not limits:
        return
    counters = [book.counter(limit, _clock.now()) for limit in limits]
    try:
        answer = await _ask(await redis(), book, counters, LEAST)
    except (RedisError, OSError):
        return
    if answer[0] == "no":
        raise _refusal(tenant, counters, LEAST, answer, levels)


async def _ask(client: Redis, book: Book, counters: Sequence[Counter], asked: Amounts, reservation: str = "") -> Any:
    said = [argument for counter in counters for argument in counter.arguments(asked)]
    async with asyncio.timeout(SECONDS):
        return await scripts.RESERVE(client, book.prefix, reservation, str(book.tenant.pk), *said)


def _refusal(
    tenant: Tenant, counters: Sequence[Counter], asked: Amounts, answer: Any, levels: Container[str]
) -> ParleyError:
    _, _, index, left, wait, standing = answer
    reached = counters[index - 1].limit
    metrics.refused(tenant, reached)
    raised = refusal(reached, asked, left=int(left), wait=float(wait), named=reached.account.level in levels)
    raised.standing = told(counters, standing, levels)
    return raised


async def settle(tenant: Tenant, reservation: uuid.UUID, used: Amounts = NOTHING) -> None:
    """Replace what was reserved by what was used; without it all is given back. Only the first call does anything.

    It never raises: what Redis does not hear now the sweep tells it.
    """
    try:
        limits = await limits_of(tenant)
        if limits:
            async with asyncio.timeout(SECONDS):
                await tell(await redis(), Book(tenant, limits), reservation, used)
    except (RedisError, OSError, DatabaseError) as error:
        log.warning("quota.not_settled", error=type(error).__name__)


async def tell(client: Redis, book: Book, reservation: uuid.UUID, used: Amounts) -> str:
    """The same; gives what came of it, and raises RedisError and OSError."""
    said = (book.prefix, str(reservation), str(book.tenant.pk), used.requests, used.tokens, used.cost)
    answer: str = await scripts.SETTLE(client, *said)
    return answer


class _Clock:
    """Redis' clock, as this process last heard it: its own may be wrong by minutes."""

    def __init__(self) -> None:
        self._ahead: float | None = None  # of the monotonic clock

    def learn(self, now: float) -> None:
        self._ahead = now - time.monotonic()

    def now(self) -> dt.datetime:
        now = time.time() if self._ahead is None else time.monotonic() + self._ahead
        return dt.datetime.fromtimestamp(now, dt.UTC)


_clock = _Clock()
