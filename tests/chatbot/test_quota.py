"""Windows of limits: calendars, time zones and the nights in which clocks are changed."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.quota import COST_UNITS, Account, Amounts, Limit, Window, bounds, cost_units

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]
MOMENTS = st.datetimes(
    min_value=dt.datetime(2000, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    max_value=dt.datetime(2060, 1, 1),  # noqa: DTZ001
    timezones=st.just(dt.UTC),
)


@given(moment=MOMENTS, zone=st.sampled_from(ZONES), window=st.sampled_from(["hour", "day", "month"]))
def test_windows_follow_each_other_without_a_gap(moment: dt.datetime, zone: str, window: Window) -> None:
    begin, end = bounds(window, moment, ZoneInfo(zone))
    assert begin <= moment < end
    assert bounds(window, begin, ZoneInfo(zone)) == (begin, end)
    assert bounds(window, end, ZoneInfo(zone))[0] == end
    assert bounds(window, begin - dt.timedelta(microseconds=1), ZoneInfo(zone))[1] == begin


@pytest.mark.parametrize(
    ("window", "zone", "moment", "begin", "end"),
    [
        ("day", "Europe/Berlin", "2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),  # of 23 hours
        ("day", "Europe/Berlin", "2026-10-25T12:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),  # of 25
        ("month", "America/New_York", "2026-03-01T03:00Z", "2026-02-01T05:00Z", "2026-03-01T05:00Z"),
        ("month", "UTC", "2024-02-29T23:59Z", "2024-02-01T00:00Z", "2024-03-01T00:00Z"),
        ("hour", "Asia/Kolkata", "2026-01-01T00:10Z", "2025-12-31T23:30Z", "2026-01-01T00:30Z"),
    ],
)
def test_windows_are_those_of_the_place(window: Window, zone: str, moment: str, begin: str, end: str) -> None:
    found = bounds(window, dt.datetime.fromisoformat(moment), ZoneInfo(zone))
    assert found == (dt.datetime.fromisoformat(begin), dt.datetime.fromisoformat(end))


def test_a_fraction_of_money_counts_as_a_whole_unit() -> None:
    assert cost_units(Decimal("0.000000001")) == 1
    assert cost_units(Decimal("1.5")) == COST_UNITS * 3 // 2


def test_a_limit_has_a_stable_name_and_its_own_account() -> None:
    limit = Limit(Account("user", "7"), "tokens", "day", 100)
    assert (limit.name, str(limit.account), limit.most) == ("user.tokens.day", "user:7", 100)
    assert Limit(Account("tenant"), "requests", "minute", 60, burst=5).most == 5
    assert Amounts(tokens=3).of("tokens") == 3
