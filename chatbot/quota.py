"""What a limit is: how much of what, of whom, in which time. No database, no Redis, no clock.

Amounts are whole numbers: requests, tokens, turns at once, documents, their bytes and pages, and money in
hundred-millionths (COST_UNITS) of the currency in which the installation counts.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Final, Literal
from zoneinfo import ZoneInfo

Metric = Literal["requests", "tokens", "cost", "turns", "documents", "bytes", "pages", "ingestion"]
Window = Literal["minute", "hour", "day", "month", "once"]  # once: at the same time, which has no window
# What questions use, what a tenant keeps, and what its documents use on their way to being searchable.
ASKED: Final = frozenset[Metric]({"requests", "tokens", "cost", "turns"})
KEPT: Final = frozenset[Metric]({"documents", "bytes"})
INGESTED: Final = frozenset[Metric]({"pages", "ingestion"})

COST_UNITS: Final = 10**8


@dataclass(frozen=True, slots=True)
class Account:
    """Whose use is counted. level: tenant, assistant, key, client, scope, user, visitor or collection. subject: which
    one of them; the tenant itself has none."""

    level: str
    subject: str = ""

    def __str__(self) -> str:
        return f"{self.level}:{self.subject}" if self.subject else self.level


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of a metric an account may use in a window.

    A minute is no fixed one: what is used is earned back evenly, and `burst` may be used at once. hard: what goes
    beyond is refused; else it is only counted.
    """

    account: Account
    metric: Metric
    window: Window
    amount: int
    burst: int = 0
    hard: bool = True

    @property
    def name(self) -> str:
        """As clients read it, for example user.tokens.day."""
        return f"{self.account.level}.{self.metric}.{self.window}"

    @property
    def most(self) -> int:
        """What can be used at once, with nothing used before."""
        return (self.burst or self.amount) if self.window == "minute" else self.amount


@dataclass(frozen=True, slots=True)
class Amounts:
    """What is asked for, or was used."""

    requests: int = 0
    tokens: int = 0
    cost: int = 0  # COST_UNITS
    turns: int = 0

    def of(self, metric: Metric) -> int:
        amount: int = getattr(self, metric)
        return amount


def bounds(window: Window, moment: dt.datetime, zone: ZoneInfo) -> tuple[dt.datetime, dt.datetime]:
    """Beginning and end, in UTC, of the hour, day or calendar month of a time zone that `moment` lies in."""
    local = moment.astimezone(zone)
    if window == "hour":
        # By the offset and not by the clock on the wall: where that is put back an hour comes twice.
        begin = local.replace(minute=0, second=0, microsecond=0).astimezone(dt.UTC)
        return begin, begin + dt.timedelta(hours=1)
    first = local.date().replace(day=1) if window == "month" else local.date()
    after = (first + dt.timedelta(days=32)).replace(day=1) if window == "month" else first + dt.timedelta(days=1)
    return _midnight(first, zone), _midnight(after, zone)


def _midnight(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), zone).astimezone(dt.UTC)


def cost_units(money: Decimal) -> int:
    """Money in COST_UNITS, rounded up: nobody gets a fraction for nothing."""
    return int((money * COST_UNITS).to_integral_value(ROUND_UP))
