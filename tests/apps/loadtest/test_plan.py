"""A plan does what it says: so many users, so many conversations, by these doors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.loadtest import plan
from apps.loadtest.plan import BadPlan, Plan, Stage

STAGES = st.lists(
    st.builds(Stage, st.one_of(st.just(0.0), st.floats(0.1, 50)), st.floats(0.1, 60)),
    min_size=1,
    max_size=5,
)


def planned(stages: list[Stage], *, mix: dict[str, int] | None = None) -> Plan:
    return Plan(mix or {"sse": 1}, stages, opens=True, think=0, turns=1, leaves=0, stops=0, verifies=0, patience=1)


@given(STAGES)
def test_as_many_conversations_begin_as_the_rates_add_up_to(stages: list[Stage]) -> None:
    whole = planned(stages)
    times = list(whole.arrivals())
    area, before = 0.0, 0.0
    for stage in stages:
        area += (before + stage.level) / 2 * stage.seconds
        before = stage.level
    assert abs(len(times) - area) <= 1
    assert times == sorted(times)
    assert all(0 <= time <= whole.seconds + 1e-6 for time in times)


@given(st.floats(0.5, 50), st.floats(5, 60))
def test_conversations_begin_evenly_while_the_rate_stays(rate: float, seconds: float) -> None:
    times = list(planned([Stage(rate, 0.1), Stage(rate, seconds)]).arrivals())
    later = [time for time in times if time > 0.1 + 1 / rate]
    assert all(abs(after - before - 1 / rate) < 1e-6 for before, after in pairwise(later))


@given(STAGES, st.floats(0, 300))
def test_the_level_lies_between_nothing_and_the_peak(stages: list[Stage], at: float) -> None:
    whole = planned(stages)
    assert 0 <= whole.level(at) <= whole.peak + 1e-9
    assert whole.level(whole.seconds + 1) == 0


def test_a_level_is_reached_evenly_and_held_where_it_is_repeated() -> None:
    whole = planned(plan.stages(["10:10s,10:20s", "0:5s"]))
    assert [whole.level(at) for at in (0, 5, 10, 29, 32.5, 40)] == [0, 5, 10, 10, 5, 0]


@given(st.dictionaries(st.sampled_from(plan.DOORS), st.integers(1, 9), min_size=1))
def test_doors_come_in_proportion_from_the_beginning_on(mix: dict[str, int]) -> None:
    whole = planned([Stage(1, 1)], mix=mix)
    assert Counter(islice(whole.doors(), sum(mix.values()) * 3)) == Counter({d: 3 * n for d, n in mix.items()})
    for count in range(1, 20):
        given_out = Counter(islice(whole.doors(), count))
        assert all(abs(given_out[door] - count * part / sum(mix.values())) < len(mix) for door, part in mix.items())


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (plan.duration, "5", "is no time"),
        (plan.duration, "-5s", "is no time"),
        (plan.duration, "٣s", "is no time"),
        (lambda text: plan.stages([text]), "10", "is no stage"),
        (lambda text: plan.stages([text]), "x:1s", "is no stage"),
        (lambda text: plan.stages([text]), "10:0s", "takes no time"),
        (lambda text: plan.stages([text]), "0:1s", "Nobody would ask"),
        (plan.mix, "sse", "is no part of a mix"),
        (plan.mix, "soap=1", "is no part of a mix"),
        (plan.mix, "sse=1,sse=2", "each door once"),
        (plan.mix, "sse=0", "needs a door"),
        (plan.share, "2", "is no share"),
        (plan.share, "nan", "is no share"),
        (plan.share, "101%", "is no share"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(read: Callable[[str], object], text: str, said: str) -> None:
    with pytest.raises(BadPlan, match=said):
        read(text)


def test_times_and_shares_are_read() -> None:
    assert [plan.duration(text) for text in ("500ms", "30s", "1.5m", "1h")] == [0.5, 30, 90, 3600]
    assert [plan.share(text) for text in ("0", "0.1", "10%", "1")] == [0, 0.1, 0.1, 1]
