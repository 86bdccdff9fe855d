"""The breaker opens as the Budgets say, and only a probe closes it."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chatbot.inference.breaker import Breaker


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(lambda: 0.0)
    assert [breaker.failed(now) for _ in range(5)] == [False] * 4 + [True]
    return breaker


def test_five_failures_in_a_row_open_it() -> None:
    assert opened().state == "open"


def test_an_answer_between_them_does_not_let_it_open() -> None:
    breaker = Breaker(lambda: 0.0)
    for _ in range(4):
        breaker.failed(0)
    breaker.succeeded(0)
    assert not breaker.failed(0)
    assert breaker.state == "closed"


def test_half_of_ten_failures_open_it() -> None:
    breaker = Breaker(lambda: 0.0)
    for _ in range(4):
        breaker.failed(0)
        breaker.succeeded(0)
    assert not breaker.failed(1)  # the ninth
    breaker.succeeded(1)
    assert breaker.failed(2)


def test_what_is_older_than_thirty_seconds_does_not_count() -> None:
    breaker = Breaker(lambda: 0.0)
    for _ in range(4):
        breaker.failed(0)
        breaker.succeeded(0)
    breaker.succeeded(30)
    assert not breaker.failed(30)
    assert breaker.error_rate(30) == 0.5


def test_the_rest_grows_with_each_relapse_up_to_five_minutes() -> None:
    breaker, now, rests = opened(), 0.0, []
    for _ in range(40):
        rests.append(breaker.reopens_at - now)
        assert not breaker.probe_due(breaker.reopens_at - 0.01)
        now = breaker.reopens_at
        assert breaker.probe_due(now)
        breaker.begin_probe()
        breaker.end_probe(False, now)
    assert rests[:3] == [10, 20, 30]
    assert max(rests) == rests[-1] == 300


def test_jitter_makes_a_rest_shorter_and_never_longer() -> None:
    breaker = Breaker(lambda: 0.999)
    for _ in range(5):
        breaker.failed(0)
    assert 8 <= breaker.reopens_at < 8.1


def test_one_probe_at_a_time_decides() -> None:
    breaker = opened()
    breaker.begin_probe()
    assert breaker.state == "half-open"
    assert not breaker.probe_due(1000)
    breaker.succeeded(11)  # a question from before
    assert breaker.state == "half-open"
    breaker.end_probe(True, 12)
    assert breaker.state == "closed"


def test_a_probe_that_was_given_up_is_due_again() -> None:
    breaker = opened()
    breaker.begin_probe()
    breaker.end_probe(None, 11)
    assert breaker.state == "open"
    assert breaker.probe_due(11)


def test_who_relapses_within_thirty_seconds_rests_longer_and_later_as_at_first() -> None:
    breaker = opened()
    breaker.begin_probe()
    breaker.end_probe(True, 10)
    for _ in range(5):
        breaker.failed(20)
    assert breaker.reopens_at == 40
    breaker.begin_probe()
    breaker.end_probe(True, 40)
    for _ in range(5):
        breaker.failed(100)
    assert breaker.reopens_at == 110


def test_a_stuck_question_and_a_stuck_probe_open_it_within_thirty_seconds() -> None:
    breaker = Breaker(lambda: 0.0)
    breaker.failed(15, stuck=True)  # first_token, by default
    assert breaker.probe_due(15)
    breaker.begin_probe()
    assert breaker.state == "closed"
    breaker.end_probe(False, 25)
    assert breaker.state == "open"


@pytest.mark.parametrize("well", [True, False])
def test_an_answer_during_a_probe_clears_the_suspect(well: bool) -> None:
    breaker = Breaker(lambda: 0.0)
    breaker.failed(15, stuck=True)
    breaker.begin_probe()
    breaker.succeeded(16)
    breaker.end_probe(well, 25)
    assert breaker.state == "closed"
    assert not breaker.probe_due(1000)


def test_quick_failures_make_no_suspect() -> None:
    breaker = Breaker(lambda: 0.0)
    breaker.failed(0)
    assert not breaker.probe_due(1)


class Breaking(RuleBasedStateMachine):
    """Against a naive history of everything that happened."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(lambda: 0.5)
        self.history: list[tuple[float, bool]] = []
        self.row = 0
        self.probing = False

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 9.0, 31.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def answer(self) -> None:
        before = self.breaker.state
        self.breaker.succeeded(self.now)
        self.history.append((self.now, False))
        self.row = 0
        assert self.breaker.state == before

    @rule(stuck=st.booleans())
    def fail(self, stuck: bool) -> None:
        before = self.breaker.state
        opened = self.breaker.failed(self.now, stuck=stuck)
        self.history.append((self.now, True))
        self.row += 1
        recent = [failed for at, failed in self.history if at > self.now - 30]
        expected = before == "closed" and (self.row >= 5 or (len(recent) >= 10 and sum(recent) * 2 >= len(recent)))
        assert opened == expected
        assert self.breaker.state == ("open" if expected else before)
        if opened:
            assert 8 <= self.breaker.reopens_at - self.now <= 300

    @precondition(lambda self: self.breaker.probe_due(self.now))
    @rule()
    def probe(self) -> None:
        assert not self.probing
        assert self.breaker.state == "closed" or self.now >= self.breaker.reopens_at
        self.breaker.begin_probe()
        self.probing = True

    @precondition(lambda self: self.probing)
    @rule(well=st.sampled_from([True, False, None]))
    def end_probe(self, well: bool | None) -> None:
        before, suspect = self.breaker.state, self.breaker.suspect
        self.breaker.end_probe(well, self.now)
        self.probing = False
        if before == "half-open":
            assert self.breaker.state == ("closed" if well else "open")
            if well:
                self.history, self.row = [], 0
        elif before == "closed":
            assert self.breaker.state == ("open" if suspect and well is False else "closed")
        else:
            assert self.breaker.state == "open"

    @precondition(lambda self: self.breaker.state != "closed")
    @rule()
    def reset(self) -> None:
        self.breaker.reset(self.now)
        self.history, self.row = [], 0

    @invariant()
    def half_open_means_probing(self) -> None:
        assert self.breaker.state != "half-open" or self.probing
        assert not (self.probing and self.breaker.probe_due(self.now))

    @invariant()
    def error_rate_is_that_of_the_window(self) -> None:
        recent = [failed for at, failed in self.history if at > self.now - 30]
        assert self.breaker.error_rate(self.now) == (sum(recent) / len(recent) if recent else 0)


TestBreaking = Breaking.TestCase
