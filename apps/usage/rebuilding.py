"""Counts from the ledger what Redis does not know: after it has lost its data, or when a limit is new."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import orjson
import structlog
from django.db import connection
from redis.asyncio import Redis

from apps.tenants.models import EndUser, Tenant
from apps.tenants.scoping import unit
from apps.usage import scripts
from apps.usage.counters import Book, Counter, charges, key
from apps.usage.limits import ASKING, accounts_of
from chatbot.quota import COST_UNITS, Account, Amounts, Metric, cost_units

log = structlog.get_logger(__name__)

KEPT_SECONDS = 3600  # that a counter outlives its window

# By level, how the ledger tells that a row is an account's.
COLUMNS = {
    "assistant": "assistant_id",
    "key": "api_key_id",
    "client": "oauth_client_id",
    "user": "end_user_id",
    "visitor": "end_user_id",
}
# What was used, and what may still be by those that run. What was not billed costs nothing.
_COUNTS = "u.kind <> 'ingestion' AND (u.state = 'reserved' OR u.bill IN ('once', 'delivered'))"
_USED = {
    "requests": "1",
    "turns": "1",
    "tokens": "u.prompt_tokens + u.completion_tokens + u.reserved_tokens",
    "cost": "u.cost + u.reserved_cost",
}
# One statement sees one state of the ledger: what runs is counted in the sums, or its end is.
_READ = """
    SELECT (
        SELECT coalesce(json_agg(json_build_object(
            'id', coalesce(u.turn_id, u.id), 'turns', (u.turn_id IS NOT NULL)::int,
            'at', extract(epoch FROM u.created), 'assistant_id', u.assistant_id, 'api_key_id', u.api_key_id,
            'oauth_client_id', u.oauth_client_id, 'end_user_id', u.end_user_id, 'external_id', e.external_id,
            'tokens', u.reserved_tokens, 'cost', u.reserved_cost
        )), '[]')
        FROM usage_usagerecord u LEFT JOIN tenants_enduser e ON e.id = u.end_user_id
        WHERE u.tenant_id = %s AND u.state = 'reserved'
    ), {0}
    FROM usage_usagerecord u WHERE u.tenant_id = %s AND u.created >= %s
"""


def used(metric: Metric, condition: str) -> str:
    """SQL for how much of a limit was used by those rows of the ledger, as `u`, that a condition holds for."""
    return f"coalesce(sum({_USED[metric]}) FILTER (WHERE {_COUNTS} AND {condition}), 0)"


def whole(metric: Metric, used: Any) -> int:
    """The same in the limit's units."""
    return cost_units(Decimal(used)) if metric == "cost" else int(used)


class Running(NamedTuple):
    """What the ledger has reserved for: a turn, or a call for embeddings."""

    id: uuid.UUID
    at: float  # seconds since 1970
    accounts: list[tuple[Account, str]]
    reserved: Amounts


async def begin(client: Redis, book: Book) -> None:
    """Begin a generation, with all that runs."""
    generation = await scripts.BEGIN(client, book.prefix)
    running, _ = await unit(read, book.tenant, [])
    log.info("quota.begun", running=len(running), version=book.limits.version)
    await _restore(client, book, generation, [], running)


async def rebuild(client: Redis, book: Book, counters: Sequence[Counter]) -> None:
    """Count these anew; those that are there by now stay as they are."""
    generation: Any = await client.get(f"{book.prefix}:since")
    if generation is None:
        return  # somebody will ask again, and begin
    running, values = await unit(read, book.tenant, counters)
    log.info("quota.rebuilt", counters=len(counters))
    await _restore(client, book, generation, list(zip(counters, values, strict=True)), running)


def read(tenant: Tenant, counters: Sequence[Counter]) -> tuple[list[Running], list[int]]:
    """What runs, and the value of each counter, by the ledger. Call it in the tenant's scope."""
    sums, values = [], []
    for counter in counters:
        condition, arguments = _condition(counter)
        sums.append(used(counter.limit.metric, condition))
        values += arguments
    earliest = min((counter.begin for counter in counters), default=dt.datetime.now(dt.UTC))
    with connection.cursor() as cursor:
        cursor.execute(_READ.format(", ".join(sums) or "count(*)"), [tenant.pk, *values, tenant.pk, earliest])
        row: Any = cursor.fetchone()
    found = orjson.loads(row[0]) if isinstance(row[0], str) else row[0]
    return [_running(tenant, one) for one in found], [
        whole(counter.limit.metric, value) for counter, value in zip(counters, row[1:], strict=False)
    ]


def _condition(counter: Counter) -> tuple[str, list[Any]]:
    account = counter.limit.account
    period, arguments = "u.created >= %s AND u.created < %s", [counter.begin, counter.end]
    if account.level == "scope":
        return (period if account.subject == ASKING else "false AND " + period), arguments
    if column := COLUMNS.get(account.level):
        return f"{period} AND u.{column} = %s", [*arguments, account.subject]
    return period, arguments


def _running(tenant: Tenant, row: dict[str, Any]) -> Running:
    def known(name: str) -> uuid.UUID | None:
        return uuid.UUID(row[name]) if row[name] else None

    end_user = known("end_user_id")
    accounts = accounts_of(
        assistant_id=known("assistant_id"),
        api_key_id=known("api_key_id"),
        oauth_client_id=known("oauth_client_id"),
        end_user=EndUser(pk=end_user, tenant=tenant, external_id=row["external_id"]) if end_user else None,
        scope=ASKING,
    )
    cost = round(row["cost"] * COST_UNITS)
    reserved = Amounts(requests=1, tokens=row["tokens"], cost=cost, turns=row["turns"])
    return Running(uuid.UUID(row["id"]), float(row["at"]), accounts, reserved)


async def _restore(
    client: Redis, book: Book, generation: str, counted: Sequence[tuple[Counter, int]], running: Sequence[Running]
) -> None:
    said: list[Any] = [book.prefix, generation, str(book.tenant.pk), len(counted)]
    for counter, value in counted:
        said += [key(book.prefix, generation, counter), value, int(counter.end.timestamp()) + KEPT_SECONDS]
    for one in running:
        moment = dt.datetime.fromtimestamp(one.at, dt.UTC)
        charged = [book.counter(limit, moment) for limit in book.limits.of(one.accounts)]
        noted = orjson.dumps(charges(book.prefix, generation, charged, one.reserved)).decode()
        said += [str(one.id), f"{one.at:.6f}", noted]
    await scripts.RESTORE(client, *said)
