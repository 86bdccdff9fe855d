"""How many frames a socket may send: bursts pass, a steady flood is told of and then cut off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.edge.inbound import BURST_SECONDS, FRAMES_A_SECOND, Pace
from chatbot.errors import RateLimited

BURST = int(FRAMES_A_SECOND * BURST_SECONDS)


def refused(pace: Pace, now: float) -> bool:
    try:
        pace.count(now)
    except RateLimited:
        return True
    return False


def test_a_burst_passes_and_what_comes_on_top_of_it_is_refused() -> None:
    pace = Pace()
    assert [refused(pace, 100.0) for _ in range(BURST + 1)] == [False] * BURST + [True]
    assert not pace.goes_on


def test_the_refusal_says_when_the_next_one_is_taken() -> None:
    pace = Pace()
    for _ in range(BURST):
        pace.count(100.0)
    with pytest.raises(RateLimited) as raised:
        pace.count(100.0)
    assert raised.value.retry_after
    assert not refused(pace, 100.0 + raised.value.retry_after + 1 / FRAMES_A_SECOND)


def test_as_many_again_end_it() -> None:
    pace = Pace()
    for _ in range(2 * BURST):
        refused(pace, 100.0)
    assert not pace.goes_on
    refused(pace, 100.0)
    assert pace.goes_on


@given(st.lists(st.floats(1 / FRAMES_A_SECOND + 1e-6, 5.0), max_size=500))
def test_whoever_keeps_the_pace_is_never_refused(pauses: list[float]) -> None:
    pace, now = Pace(), 1000.0
    for pause in pauses:
        assert not refused(pace, now)
        now += pause


def test_a_little_too_fast_for_long_is_told_before_it_is_ended() -> None:
    pace, told = Pace(), 0
    for frame in range(10_000):
        told += refused(pace, frame / (1.2 * FRAMES_A_SECOND))
        if pace.goes_on:
            break
    assert pace.goes_on
    assert told > 100
