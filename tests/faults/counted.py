"""Whether the counters in Redis say what the ledger says, added up here by other means than the product's."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from chatbot.quota import COST_UNITS, bounds
from tests.faults.world import World

_LEDGER = """
    SELECT tenant_id::text, coalesce(turn_id, id)::text, state, bill, prompt_tokens + completion_tokens,
        cost, created, end_user_id::text, api_key_id::text
    FROM usage_usagerecord WHERE kind <> 'ingestion'
"""


def counters_equal_the_ledger(world: World) -> None:
    """What a crash left reserved, which a worker would sweep, counts as it was charged; everything else as billed."""
    ledger = world.stores.postgres.rows(_LEDGER)
    with world.stores.redis.client() as redis:
        kept: dict[str, list[Any]] = {}
        # What an earlier generation counted is believed by nobody.
        believed = {
            f"{_text(key).removesuffix(':since')}:{_text(redis.get(key))}" for key in redis.scan_iter("quota:*:since")
        }
        for start in believed:
            for reservation, charges in redis.hgetall(f"{start}:open").items():
                kept[_text(reservation)] = json.loads(charges)
        for key in _keys(redis, believed, "w"):
            counted = int(redis.get(key) or 0)
            expected = _added_up(key, [row for row in ledger if row[1] not in kept]) + sum(
                charge[3] for charges in kept.values() for charge in charges if charge[1] == key
            )
            assert counted == expected, f"{key}: {counted} counted, {expected} in the ledger"
        for key in _keys(redis, believed, "c"):
            held = {_text(member) for member in redis.zrange(key, 0, -1)}
            assert held <= kept.keys(), f"{key}: held for nothing"
    known = {row[1]: row for row in ledger}
    # A living process settles what it closes; only what ended with one may be left.
    left = [reservation for reservation in kept if reservation in known]
    assert len(left) <= len(world.clients) // 2 + 1, f"{len(left)} reservations left"


def _keys(redis: Any, believed: set[str], kind: str) -> list[str]:
    return [_text(key) for start in believed for key in redis.scan_iter(match=f"{start}:{kind}:*")]


def _added_up(key: str, ledger: list[tuple[Any, ...]]) -> int:
    tenant, counter = key.split(":")[1], key.split(":w:")[1]
    account, metric, window, begin = counter.split("|")
    level, _, subject = account.partition(":")
    first, last = bounds(window, dt.datetime.fromtimestamp(float(begin), dt.UTC), ZoneInfo("UTC"))  # type: ignore[arg-type]
    total = 0
    for owner, _, state, bill, tokens, cost, created, end_user, api_key in ledger:
        whose = {"user": end_user, "key": api_key}.get(level, "")
        if owner != tenant or whose != subject or not first <= created < last or state != "settled":
            continue
        if bill in ("once", "delivered"):
            total += {"requests": 1, "tokens": tokens, "cost": int(Decimal(cost) * COST_UNITS)}[metric]
    return total


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
