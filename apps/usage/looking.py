"""Looks for limits of which 80% or all is used.

The ledger says what was used. Redis' counters say what was used at most, with what is only reserved, so they spare the
ledger the questions about limits that are far from reached; what Redis has lost, the ledger is asked for.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
from django.core.cache import cache
from django.db import Error as DatabaseError
from django.db import connection
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import RedisError

from apps.edge import broker
from apps.edge.shared_state import redis
from apps.tenants import lookups
from apps.tenants.models import EndUser, Tenant
from apps.tenants.scoping import platform_unit, unit
from apps.usage import alerting, limits, rebuilding, scripts
from apps.usage.alerting import Passed, Told, least_untold
from apps.usage.counters import Book, Counter, key
from apps.usage.limit_use import in_use
from apps.usage.limits import ASKING, accounts_of
from apps.usage.models import LookedAt, QuotaAlert
from chatbot.quota import INGESTED, KEPT, Account, Window, bounds

log = structlog.get_logger(__name__)

TELL_TASK: Final = "usage.tell_of_limits"
LOOK_SECONDS: Final = 30.0
# What a minute or the questions at once allow is back within seconds: nobody could do anything about it.
WINDOWS: Final = frozenset({"hour", "day", "month"})
COUNTED: Final = frozenset({"requests", "tokens", "cost"})  # what the ledger counts
# By which clocks of workers may differ that settle turns of dead processes.
OVERLAP: Final = dt.timedelta(minutes=15)
_Refused = dict[uuid.UUID, dict[str, dt.datetime]]  # by tenant, counters' names and when they last refused
BATCH: Final = 50  # counters in one statement
_LOOKING = "usage:looking"
# Whose use has grown, and in which quarter of an hour: no zone's hour, day or month begins within one.
_USES = """
    SELECT DISTINCT u.assistant_id, u.api_key_id, u.oauth_client_id, u.end_user_id, e.external_id,
        date_bin('15 minutes', u.created, 'epoch')
    FROM usage_usagerecord u LEFT JOIN tenants_enduser e ON e.id = u.end_user_id
    WHERE u.tenant_id = %(tenant)s AND u.kind <> 'ingestion' AND u.settled_at >= %(since)s
"""
# All that used anything this month: where limits are new, each of them may be beyond its own.
_USES_OF_MONTH = """
    SELECT DISTINCT u.assistant_id, u.api_key_id, u.oauth_client_id, u.end_user_id, e.external_id, %(now)s
    FROM usage_usagerecord u LEFT JOIN tenants_enduser e ON e.id = u.end_user_id
    WHERE u.tenant_id = %(tenant)s AND u.kind <> 'ingestion' AND u.created >= %(month)s
"""


@dataclass(frozen=True, slots=True)
class _Since:
    """now: PostgreSQL's, as all of these are. changed: since when limits may have changed that nobody has looked at."""

    now: dt.datetime
    used: dt.datetime
    changed: dt.datetime


async def look() -> int:
    """Look at everybody whose use has grown since the last time; how many limits there are to tell of."""
    if not await _begin():
        return 0
    try:
        since = await platform_unit(_since)
        whole, found = True, 0
        refused = await _refused(since)
        using = await platform_unit(lookups.call, "tenants_to_look_at", since.used, since.changed)
        for tenant_id in dict.fromkeys([*(each for (each,) in using), *refused]):
            try:
                found += await _look_at(tenant_id, since, refused.get(tenant_id, {}))
            except (DatabaseError, OSError):
                # The next look begins where this one did, and tells of nothing twice.
                whole = False
                log.exception("quota.not_looked_at", tenant=str(tenant_id))
        if whole:
            await platform_unit(_looked, since.now)
    finally:
        await _end()
    await platform_unit(_have_told)
    return found


async def _begin() -> bool:
    """False where another worker is looking: thrift, and not what keeps it from telling twice."""
    try:
        return await cache.aadd(_LOOKING, 1, timeout=10 * LOOK_SECONDS)
    except ConnectionInterrupted:
        return True


async def _end() -> None:
    with suppress(ConnectionInterrupted):
        await cache.adelete(_LOOKING)


def _since() -> _Since:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        [(now,)] = cursor.fetchall()
    last = LookedAt.objects.first()
    if last is None:
        return _Since(now, used=now, changed=dt.datetime.fromtimestamp(0, dt.UTC))
    return _Since(now, used=last.until - OVERLAP, changed=last.until - dt.timedelta(seconds=LOOK_SECONDS))


def _looked(until: dt.datetime) -> None:
    LookedAt.objects.update_or_create(only=True, defaults={"until": until})


def _have_told() -> None:
    for (tenant_id,) in lookups.call("tenants_to_tell"):
        broker.send(TELL_TASK, str(tenant_id), expires=LOOK_SECONDS)


async def _refused(since: _Since) -> _Refused:
    """Which counters refused a question of late. What Redis has lost is not told of: it is told again at the next."""
    try:
        found: Any = await (await redis()).zrangebyscore(
            scripts.REFUSED, since.used.timestamp(), "+inf", withscores=True
        )
    except (RedisError, OSError):
        return {}
    refused: _Refused = {}
    for member, moment in found:
        tenant_id, _, name = member.partition("|")
        refused.setdefault(uuid.UUID(tenant_id), {})[name] = dt.datetime.fromtimestamp(moment, dt.UTC)
    return refused


async def _look_at(tenant_id: uuid.UUID, since: _Since, refused: Mapping[str, dt.datetime]) -> int:
    opened = await unit(_open, tenant_id, since, refused)
    if opened is None:
        return 0
    book, counters, told = opened
    of_documents = any(metric in KEPT | INGESTED for (_, metric, _), _ in book.limits.rules())
    passed = await unit(_by_documents, book.tenant, since.now) if of_documents else []
    untold = [counter for counter in counters if least_untold(counter, told)]
    near = [
        *(counter for counter in untold if counter.name in refused),
        *await _near(book, [counter for counter in untold if counter.name not in refused], told),
    ]
    for first in range(0, len(near), BATCH):
        some = near[first : first + BATCH]
        running, values = await unit(rebuilding.read, book.tenant, some)
        for counter, value in zip(some, values, strict=True):
            used = value - _reserved(counter, running)
            if used * 100 >= QuotaAlert.Threshold.MOST * counter.limit.amount:
                passed.append(Passed(counter, used, refused=counter.name in refused))
    return await unit(alerting.promise, book.tenant, passed) if passed else 0


def _open(
    tenant_id: uuid.UUID, since: _Since, refused: Mapping[str, dt.datetime]
) -> tuple[Book, list[Counter], Told] | None:
    """A tenant's limits, the counters of those whose use has grown or who were refused, and what was told of them."""
    tenant = Tenant.objects.filter(pk=tenant_id).first()
    if tenant is None:
        return None
    month, _ = bounds("month", since.now, ZoneInfo(tenant.time_zone))
    book = Book(tenant, limits.read(tenant, granted_since=since.used - alerting.KEPT))
    given: dict[str, Any] = {"tenant": tenant_id, "since": since.used, "now": since.now, "month": month}
    found: dict[Counter, None] = {}
    with connection.cursor() as cursor:
        for query in (_USES, *([_USES_OF_MONTH] if float(book.limits.version) >= since.changed.timestamp() else [])):
            cursor.execute(query, given)
            for *ids, moment in cursor.fetchall():
                found |= dict.fromkeys(_counters(book, ids, moment, since.now))
    found |= dict.fromkeys(_that_refused(book, refused, since.now))
    return book, list(found), alerting.told_of(tenant, list(found))


def _that_refused(book: Book, refused: Mapping[str, dt.datetime], now: dt.datetime) -> Iterator[Counter]:
    """The counters of these names, of limits that still hold."""
    accounts = {name: Account(*name.partition("|")[0].partition(":")[::2]) for name in refused}
    ids = {account.subject for account in accounts.values() if account.level in alerting.OF_MANY}
    people = EndUser.objects.for_tenant(book.tenant).filter(pk__in=ids).values_list("pk", "external_id")
    known_as = {str(pk): external_id for pk, external_id in people}
    for name, moment in refused.items():
        account = accounts[name]
        for limit in book.limits.of([(account, known_as.get(account.subject, account.subject))], at=now):
            counter = book.counter(limit, moment)
            if counter.name == name and counter.kind == "w" and counter.end > now and limit.hard:
                yield counter


def _counters(book: Book, ids: Sequence[Any], moment: dt.datetime, now: dt.datetime) -> Iterator[Counter]:
    """Those in which what was used at a moment counts."""
    assistant_id, api_key_id, oauth_client_id, end_user_id, external_id = ids
    end_user = EndUser(pk=end_user_id, tenant=book.tenant, external_id=external_id) if end_user_id else None
    accounts = accounts_of(
        assistant_id=assistant_id,
        api_key_id=api_key_id,
        oauth_client_id=oauth_client_id,
        end_user=end_user,
        scope=ASKING,
    )
    for limit in book.limits.of(accounts, at=now):
        if limit.window not in WINDOWS or limit.metric not in COUNTED:
            continue
        counter = book.counter(limit, moment)
        if counter.end > now:
            yield counter
        elif float(book.limits.version) < counter.end.timestamp():
            # What was granted ended with the window.
            then = book.limits.of(accounts, at=counter.end - dt.timedelta(microseconds=1))
            yield from (
                book.counter(one, moment)
                for one in then
                if (one.account, one.metric, one.window) == (limit.account, limit.metric, limit.window)
            )


def _by_documents(tenant: Tenant, now: dt.datetime) -> list[Passed]:
    """What is kept, told of at most once a month, and what documents used."""
    passed = []
    for use in in_use(tenant, now, KEPT | INGESTED):
        window: Window = "month" if use.limit.metric in KEPT else use.limit.window
        if use.limit.amount and use.used * 100 >= QuotaAlert.Threshold.MOST * use.limit.amount:
            begin, end = bounds(window, now, ZoneInfo(tenant.time_zone))
            passed.append(Passed(Counter(use.limit, "w", begin, end), use.used))
    return passed


async def _near(book: Book, counters: Sequence[Counter], told: Told) -> list[Counter]:
    """Those of which so much may be used that there is something to tell."""
    try:
        client = await redis()
        generation: Any = await client.get(f"{book.prefix}:since")
        if generation is None or not counters:
            return list(counters)
        texts: Any = await client.mget([key(book.prefix, generation, counter) for counter in counters])
    except (RedisError, OSError):
        return list(counters)
    return [
        counter
        for counter, text in zip(counters, texts, strict=True)
        if text is None or int(text) * 100 >= least_untold(counter, told) * counter.limit.amount
    ]


def _reserved(counter: Counter, running: Sequence[rebuilding.Running]) -> int:
    """How much of what the ledger counts may still be given back."""
    return sum(
        one.reserved.of(counter.limit.metric)
        for one in running
        if counter.begin.timestamp() <= one.at < counter.end.timestamp()
        and any(account == counter.limit.account for account, _ in one.accounts)
    )
