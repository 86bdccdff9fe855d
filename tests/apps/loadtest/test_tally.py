"""Nothing is lost between what happened and what is told of it."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, floor
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from apps.edge.errors import STATUS_OF_CODE
from apps.loadtest import charts
from apps.loadtest.doors import REFUSALS
from apps.loadtest.tally import COLUMNS, PERCENTILES, Tally, figures, percentiles, series

TIMES = st.lists(st.floats(0, 1e6), min_size=1, max_size=300)


@given(TIMES)
def test_percentiles_lie_where_that_share_of_the_values_does(values: list[float]) -> None:
    told = percentiles(values)
    assert told is not None
    ordered = sorted(values)
    slack = 1e-9 * max(values)
    for percent in PERCENTILES:
        place = (len(values) - 1) * percent / 100
        assert ordered[floor(place)] - slack <= told[f"p{percent}"] <= ordered[ceil(place)] + slack
    assert all(later >= earlier - slack for earlier, later in pairwise(told.values()))
    assert abs(told["p50"] - median(values)) <= slack


@given(TIMES, st.randoms())
def test_percentiles_know_no_order(values: list[float], chance: object) -> None:
    shuffled = values.copy()
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert percentiles(values) == percentiles(shuffled)


def test_of_nothing_there_are_none() -> None:
    assert percentiles([]) is None


EVENTS = st.lists(
    st.tuples(st.sampled_from(["finished", "refused", "failed", "broken"]), st.sampled_from("ab"), st.floats(0, 2000)),
    max_size=60,
)


@given(EVENTS)
def test_each_question_is_told_once_by_door_as_a_sum_and_over_time(events: list[tuple[str, str, float]]) -> None:
    tally = Tally(begun=100.0)
    for outcome, door, at in events:
        tally.asked(door, 100.0 + at)
        if outcome == "finished":
            tally.finished(door, 100.0 + at, 101.0 + at, [100.5 + at, 100.75 + at], 7)
        else:
            getattr(tally, outcome)(door, 101.0 + at, "because")
    told = figures(tally, 10.0)
    ended = [outcome for outcome, _, _ in events]
    for place in (told["all"], *told["doors"].values()):
        codes = sum(sum(place[kind].values()) for kind in ("refused", "failed", "broken"))
        assert place["started"] == place["finished"] + codes + place["cut"]
    assert told["all"]["started"] == len(events) == sum(door["started"] for door in told["doors"].values())
    assert told["all"]["refused"] == ({"because": ended.count("refused")} if "refused" in ended else {})
    columns = told["series"]
    assert len(columns) <= COLUMNS
    width = columns[1]["at"] - columns[0]["at"] if len(columns) > 1 else max(len(columns), 1)
    if len(columns) > 1:
        for name, expected in (
            ("asked", len(events)),
            ("finished", ended.count("finished")),
            ("refused", ended.count("refused")),
            ("wrong", ended.count("failed") + ended.count("broken")),
            ("tokens", 7 * ended.count("finished")),
        ):
            assert abs(sum(column[name] for column in columns) * width - expected) < 1e-6
    for door in told["doors"].values():
        if door["finished"]:
            assert abs(door["first_ms"]["p99"] - 500) < 1e-3
            assert abs(door["gap_ms"]["p50"] - 250) < 1e-3
            assert abs(door["whole_ms"]["p50"] - 1000) < 1e-3


def test_a_column_without_a_first_token_is_a_gap_in_its_line() -> None:
    tally = Tally(begun=0.0)
    for at in (0.0, 1.0, 3.0):
        tally.finished("sse", at, at + 0.2, [at + 0.1], 1)
    first = [column["first_ms"] for column in series(tally)]
    assert [one is not None for one in first] == [True, True, False, True]
    drawn = charts.chart("First token", [0, 1, 2, 3], [charts.Line("p50", "a", [1.0, 2.0, None, 3.0])])
    assert [len(points) for _, points in drawn["lines"]] == [2, 2]


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=130))
def test_a_chart_stays_within_its_frame(values: list[float]) -> None:
    drawn = charts.chart("Any", list(range(len(values))), [charts.Line("any", "a", values)])
    for _, points in drawn["lines"]:
        for point in points:
            x, y = map(float, point.split(","))
            assert charts.LEFT <= x <= charts.WIDTH - charts.RIGHT + 0.1
            assert charts.TOP - 0.1 <= y <= charts.HEIGHT - charts.BOTTOM + 0.1
    assert 2 <= len(drawn["rows"]) <= 6


def test_what_counts_as_refused_is_what_the_product_says_with_429_and_503() -> None:
    assert {code for code, status in STATUS_OF_CODE.items() if status in (429, 503)} == REFUSALS
