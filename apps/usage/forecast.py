"""What a month will come to, at the present pace."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

PACE_DAYS = 7  # so that each day of the week counts once
FORECAST = ("requests", "total_tokens", "cost")
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Forecast:
    """By name, of FORECAST: so_far, of the month up to now; a_day, the present pace; whole, the month's estimate."""

    so_far: dict[str, Decimal]
    a_day: dict[str, Decimal]
    whole: dict[str, Decimal]


def first_day_needed(today: dt.date) -> dt.date:
    """From which day on a forecast wants to know."""
    return min(today.replace(day=1), today - 4 * PACE_DAYS * _DAY)


def forecast(days: Mapping[dt.date, Mapping[str, Any]], now: dt.datetime) -> Forecast | None:
    """An estimate of the month's total: what it has come to so far, and the present pace for what is left of it,

        whole = so_far + a_day * days_left

    where a_day is the average of the last seven whole days, or since the first use if that is less, and days_left runs
    from now to the month's end, with a fraction. None before there was a whole day with any use in the last seven.

    days: the sums of each day with any, from first_day_needed(today) on. now: in the zone whose days these are.
    """
    today = now.date()
    last_days = [today - n * _DAY for n in range(PACE_DAYS, 0, -1)]
    used = [day for day in last_days if day in days]
    if not used:
        return None
    earlier = any(day < last_days[0] for day in days)
    over = PACE_DAYS if earlier else (today - used[0]).days
    length = calendar.monthrange(today.year, today.month)[1]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    left = Decimal(length - today.day + 1) - Decimal((now - midnight) / _DAY)
    so_far, a_day = {}, {}
    for name in FORECAST:
        so_far[name] = sum((Decimal(days[day][name]) for day in days if _of_month(day, today)), Decimal(0))
        a_day[name] = sum((Decimal(days[day][name]) for day in used), Decimal(0)) / over
    return Forecast(so_far, a_day, {name: so_far[name] + a_day[name] * left for name in FORECAST})


def _of_month(day: dt.date, today: dt.date) -> bool:
    return (day.year, day.month) == (today.year, today.month) and day <= today
