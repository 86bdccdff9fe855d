"""The forecast: the month so far, and the pace of the last seven whole days for what is left of it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from apps.usage.forecast import first_day_needed, forecast

NOON = dt.datetime(2026, 4, 10, 12, tzinfo=dt.UTC)


def day(requests: int) -> dict[str, Any]:
    return {"requests": requests, "total_tokens": 10 * requests, "cost": Decimal(requests) / 2}


def april(*days: int, requests: int = 10) -> dict[dt.date, dict[str, Any]]:
    return {dt.date(2026, 4, number): day(requests) for number in days}


def test_a_steady_month_goes_on_like_that() -> None:
    # 9 whole days and half of the 10th are over, 20.5 of 30 days are left.
    found = forecast({dt.date(2026, 3, 20): day(10), **april(*range(1, 10)), **april(10, requests=5)}, NOON)
    assert found is not None
    assert found.so_far == {"requests": 95, "total_tokens": 950, "cost": Decimal("47.5")}
    assert found.a_day == {"requests": 10, "total_tokens": 100, "cost": 5}
    assert found.whole == {"requests": 300, "total_tokens": 3000, "cost": 150}


def test_the_latest_week_is_the_pace_quiet_days_included() -> None:
    days = april(1, 2, requests=1000) | april(4, requests=70)
    found = forecast(days, NOON)
    assert found is not None
    assert found.a_day["requests"] == 10
    assert found.whole["requests"] == 2070 + Decimal("20.5") * 10


def test_who_began_two_days_ago_is_not_averaged_over_seven() -> None:
    found = forecast(april(8, 9, requests=40), NOON)
    assert found is not None
    assert found.a_day["requests"] == 40


def test_the_first_of_a_month_goes_by_the_month_before() -> None:
    now = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
    days = {dt.date(2026, 3, number): day(10) for number in range(20, 32)}
    found = forecast(days, now)
    assert found is not None
    assert (found.so_far["requests"], found.whole["requests"]) == (0, 300)


@pytest.mark.parametrize("days", [{}, april(10), april(1, 2)])
def test_without_a_whole_day_of_late_there_is_none(days: dict[dt.date, Any]) -> None:
    assert forecast(days, NOON) is None


def test_it_asks_for_enough_days() -> None:
    assert first_day_needed(dt.date(2026, 4, 2)) == dt.date(2026, 3, 5)
    assert first_day_needed(dt.date(2026, 4, 30)) == dt.date(2026, 4, 1)
