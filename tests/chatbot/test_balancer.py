"""The less busy of two servers drawn, by weight, on the lowest tier that has any."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chatbot.inference.balancer import choose


@dataclass(eq=False)
class Fake:
    tier: int
    weight: float = 1.0
    in_flight: int = 0

    @property
    def capacity(self) -> float:
        return self.weight

    @property
    def busyness(self) -> float:
        return self.in_flight / self.weight


def test_of_none_it_takes_none() -> None:
    assert choose([], random.random) is None


@given(
    st.lists(st.builds(Fake, tier=st.integers(0, 2), in_flight=st.integers(0, 9)), min_size=1),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2),
)
def test_it_never_takes_a_higher_tier_or_the_busiest_of_several(servers: list[Fake], numbers: list[float]) -> None:
    chosen = choose(servers, iter(numbers).__next__)
    assert chosen is not None
    lowest = min(server.tier for server in servers)
    rivals = [server for server in servers if server.tier == lowest]
    assert chosen.tier == lowest
    if len(rivals) > 1:
        assert any(other is not chosen and other.busyness >= chosen.busyness for other in rivals)


def test_every_pair_is_drawn() -> None:
    numbers = random.Random(1)
    servers = [Fake(0) for _ in range(4)]
    counts = Counter(servers.index(choose(servers, numbers.random) or servers[0]) for _ in range(4000))
    assert all(800 < counts[place] < 1200 for place in range(4))


class Balancing(RuleBasedStateMachine):
    """Questions that never end: each server fills in step with its weight."""

    @initialize(weights=st.lists(st.sampled_from([1.0, 2.0, 4.0]), min_size=2, max_size=8), seed=st.integers(0, 99))
    def begin(self, weights: list[float], seed: int) -> None:
        self.servers = [Fake(0, weight) for weight in weights]
        self.random = random.Random(seed).random

    @rule(count=st.integers(1, 50))
    def ask(self, count: int) -> None:
        for _ in range(count):
            chosen = choose(self.servers, self.random)
            assert chosen is not None
            chosen.in_flight += 1

    @invariant()
    def none_is_far_busier_than_the_rest(self) -> None:
        # log log n / log 2 and a little: with one choice it grows with the square root of what was asked.
        least = min(server.busyness for server in self.servers)
        most = max(server.busyness for server in self.servers)
        assert most - least <= 8


TestBalancing = Balancing.TestCase
