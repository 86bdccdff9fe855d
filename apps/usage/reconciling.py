"""Proves that the counters in Redis say what the ledger says, and makes them say it where they do not."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from apps.edge.shared_state import redis
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from apps.usage import rebuilding
from apps.usage.counters import Book, Counter, key
from apps.usage.limits import limits_of
from chatbot.quota import Account, Limit

BATCH: Final = 50  # counters in one statement
# Between two looks: what was on its way between ledger and Redis at the first has arrived at the second.
PAUSE: Final = 1.0


class Difference(NamedTuple):
    counter: Counter
    counted: int  # in Redis
    ledger: int

    @property
    def too_many(self) -> int:
        return self.counted - self.ledger


class Found(NamedTuple):
    checked: int
    differ: list[Difference]


async def reconcile(tenant: Tenant, *, repair: bool) -> Found:
    """Compare all counters of a tenant's current windows with the ledger; differences that last are told, and mended
    where `repair` says so."""
    client = await redis()
    book = Book(tenant, await limits_of(tenant))
    generation: Any = await client.get(f"{book.prefix}:since") if book.limits else None
    if generation is None:
        return Found(0, [])
    counters = await _counters(client, book, generation)
    differ = await _compare(client, book, generation, counters)
    if differ:
        await asyncio.sleep(PAUSE)
        before = {difference.counter.name: difference.too_many for difference in differ}
        again = await _compare(client, book, generation, [difference.counter for difference in differ])
        differ = [one for one in again if one.too_many == before[one.counter.name]]
    if repair:
        for one in differ:
            # By the difference, so that what is charged meanwhile stays.
            await client.decrby(key(book.prefix, generation, one.counter), one.too_many)
    return Found(len(counters), differ)


async def _counters(client: Redis, book: Book, generation: str) -> list[Counter]:
    """Those that are in Redis, of windows that have not ended."""
    seconds, _ = await client.time()
    now = dt.datetime.fromtimestamp(seconds, dt.UTC)
    start = f"{book.prefix}:{generation}:w:"
    found = []
    async for name in client.scan_iter(match=f"{start}*", count=1_000):
        account, metric, window, begin = name.removeprefix(start).split("|")
        level, _, subject = account.partition(":")
        counter = book.counter(Limit(Account(level, subject), metric, window, 1), now)
        if counter.begin.timestamp() == float(begin):
            found.append(counter)
    return found


async def _compare(client: Redis, book: Book, generation: str, counters: Sequence[Counter]) -> list[Difference]:
    differ = []
    for first in range(0, len(counters), BATCH):
        some = counters[first : first + BATCH]
        _, values = await unit(rebuilding.read, book.tenant, some)
        counted: Any = await client.mget([key(book.prefix, generation, counter) for counter in some])
        for counter, value, text in zip(some, values, counted, strict=True):
            if text is not None and int(text) != value:
                differ.append(Difference(counter, int(text), value))
    return differ
