"""What the counters are called, and over which part of the ledger each of them counts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from apps.tenants.models import Tenant
from apps.usage.limits import Limits
from chatbot.quota import Amounts, Limit, bounds


@dataclass(frozen=True, slots=True)
class Book:
    """Where a tenant's counters are kept: for these limits, in the version that they have."""

    tenant: Tenant
    limits: Limits

    @property
    def prefix(self) -> str:
        return f"quota:{self.tenant.pk}:{self.limits.version}"

    def counter(self, limit: Limit, now: dt.datetime) -> Counter:
        match limit.window:
            case "minute":
                return Counter(limit, "g")
            case "once":
                return Counter(limit, "c")
            case window:
                return Counter(limit, "w", *bounds(window, now, ZoneInfo(self.tenant.time_zone)))


_NEVER = dt.datetime.fromtimestamp(0, dt.UTC)


@dataclass(frozen=True, slots=True)
class Counter:
    """Of a limit, in the window that begins and ends then. kind: as in scripts.py."""

    limit: Limit
    kind: str
    begin: dt.datetime = _NEVER
    end: dt.datetime = _NEVER

    @property
    def name(self) -> str:
        limit = self.limit
        return f"{limit.account}|{limit.metric}|{limit.window}|{self.begin.timestamp():.0f}"

    @property
    def seconds(self) -> float:
        """The length of its window; of a minute, in which what may be used at once is earned back."""
        limit = self.limit
        if self.kind == "g":
            return 60 * limit.most / max(1, limit.amount)
        return (self.end - self.begin).total_seconds()

    def arguments(self, asked: Amounts) -> tuple[Any, ...]:
        """For RESERVE."""
        limit = self.limit
        return (
            self.kind,
            self.name,
            limit.amount,
            limit.most,
            asked.of(limit.metric),
            self.begin.timestamp(),
            self.end.timestamp(),
            int(limit.hard),
        )


def key(prefix: str, generation: str, counter: Counter) -> str:
    return f"{prefix}:{generation}:{counter.kind}:{counter.name}"


def charges(prefix: str, generation: str, counters: Sequence[Counter], asked: Amounts) -> list[list[Any]]:
    """What a reservation has charged, as RESERVE notes it. Minutes are left out: what they forget is earned back."""
    noted: list[list[Any]] = []
    for counter in counters:
        at = key(prefix, generation, counter)
        if counter.kind == "w":
            noted.append(["w", at, counter.limit.metric, asked.of(counter.limit.metric)])
        elif counter.kind == "c":
            noted.append(["c", at])
    return noted
