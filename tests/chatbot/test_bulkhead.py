"""A server gets as many questions at once as it takes: AIMD between one and this process's part of its limit."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chatbot.inference.bulkhead import Bulkhead, part_of


@pytest.mark.parametrize(("limit", "processes", "part"), [(32, 1, 32), (32, 3, 10), (1, 3, 1), (3, 4, 1), (32, 0, 32)])
def test_processes_share_a_limit_and_each_has_one(limit: int, processes: int, part: int) -> None:
    assert part_of(limit, processes) == part


def test_a_burst_of_refusals_shrinks_it_once() -> None:
    bulkhead = Bulkhead(32)
    assert bulkhead.overloaded(began=0.0, now=1.0)
    assert not any(bulkhead.overloaded(began=0.5, now=1.1) for _ in range(31))
    assert bulkhead.limit == pytest.approx(25.6)
    assert bulkhead.overloaded(began=1.2, now=2.0)


def test_it_grows_by_one_for_a_round_of_answers_while_it_is_used() -> None:
    bulkhead = Bulkhead(32)
    for now in range(1, 20):
        bulkhead.overloaded(now, now)
    assert bulkhead.limit == 1
    bulkhead.enter()
    bulkhead.answered()
    assert bulkhead.limit == 2
    bulkhead.enter()
    bulkhead.answered()
    bulkhead.answered()
    assert 2.8 < bulkhead.limit < 3.1
    bulkhead.leave()
    bulkhead.leave()
    before = bulkhead.limit
    bulkhead.answered()  # nobody uses it: an answer says nothing
    assert bulkhead.limit == before


def test_a_new_ceiling_keeps_what_was_learnt() -> None:
    bulkhead = Bulkhead(10)
    bulkhead.resize(20)
    assert bulkhead.limit == 20
    bulkhead.overloaded(1.0, 1.0)
    bulkhead.resize(40)
    assert bulkhead.limit == 16
    bulkhead.resize(5)
    assert bulkhead.limit == 5


class Sailing(RuleBasedStateMachine):
    """A server that takes `capacity` at once and refuses the rest; nobody tells us its capacity."""

    @initialize(ceiling=st.integers(1, 40), capacity=st.integers(1, 60))
    def begin(self, ceiling: int, capacity: int) -> None:
        self.now = 1.0
        self.ceiling = ceiling
        self.capacity = capacity
        self.bulkhead = Bulkhead(ceiling)
        self.running: list[float] = []
        self.most = 0

    @rule()
    def ask(self) -> None:
        self.now += 0.001
        if not self.bulkhead.room:
            return
        self.bulkhead.enter()
        self.most = max(self.most, self.bulkhead.in_flight)
        assert self.bulkhead.in_flight <= self.bulkhead.limit
        if len(self.running) < self.capacity:
            self.running.append(self.now)
            return
        before = self.bulkhead.limit
        began, self.now = self.now, self.now + 0.01
        self.bulkhead.overloaded(began, self.now)
        assert self.bulkhead.limit == max(1.0, before * 0.8)
        self.bulkhead.overloaded(began, self.now)  # one that was sent beside it
        assert self.bulkhead.limit == max(1.0, before * 0.8)
        self.bulkhead.leave()

    @precondition(lambda self: self.running)
    @rule()
    def answer(self) -> None:
        self.now += 0.1
        before = self.bulkhead.limit
        self.running.pop()
        self.bulkhead.answered()
        self.bulkhead.leave()
        assert before <= self.bulkhead.limit <= before + 1

    @rule(ceiling=st.integers(1, 40))
    def divide(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.bulkhead.resize(ceiling)

    @invariant()
    def it_stays_between_one_and_its_ceiling(self) -> None:
        assert 1 <= self.bulkhead.limit <= self.ceiling
        assert self.bulkhead.in_flight == len(self.running)
        if not self.running:
            assert self.bulkhead.room


TestSailing = Sailing.TestCase


def test_it_settles_near_what_the_server_takes() -> None:
    bulkhead, now, running = Bulkhead(64), 0.0, 0
    levels = []
    for step in range(4000):
        now += 1.0
        while bulkhead.room:
            bulkhead.enter()
            now += 0.001
            if running < 20:
                running += 1
            else:
                bulkhead.overloaded(now, now + 0.001)
                now += 0.002
                bulkhead.leave()
        if step > 500:
            levels.append(running)
        running -= 1
        bulkhead.answered()
        bulkhead.leave()
    assert sum(levels) / len(levels) > 0.85 * 20
