"""A tenth of the questions may be asked twice, and a few more where little is asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatbot.inference.retries import FEW, FEW_AGAIN, PART, RetryBudget


def test_a_quiet_system_can_fail_over() -> None:
    budget = RetryBudget()
    assert [budget.take(0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert not budget.take(0.9)
    assert budget.take(2.0)


def test_a_busy_one_saves_up_for_a_bad_moment() -> None:
    budget = RetryBudget()
    for _ in range(2000):
        budget.asked(0)
    assert sum(budget.take(0) for _ in range(200)) == 100


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=300))
def test_never_more_than_a_tenth_and_the_few(steps: list[tuple[bool, float]]) -> None:
    budget, now, asked, taken = RetryBudget(), 0.0, 0, 0
    for is_question, passed in steps:
        now += passed
        if is_question:
            budget.asked(now)
            asked += 1
        else:
            taken += budget.take(now)
        assert taken <= PART * asked + FEW + FEW_AGAIN * now + 1e-6
