"""The benchmark of overload counts what it says: on a small machine, for a moment."""

from __future__ import annotations

import pytest

from bench import overload
from tests.fakes.inference import FakeInference, Reply
from tests.fakes.machine import Machine


async def test_more_is_asked_than_answered_and_the_rest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "ANSWER_TOKENS", 5)
    monkeypatch.setattr(overload, "SPREAD", 2)
    async with FakeInference() as fake:
        fake.machine = Machine(slots=2, queue=2, tokens_per_second=100)
        fake.script(Reply(tokens=["a "] * 7, always=True))
        figures = await overload.measure(overload.endpoint_at(fake.base_url, limit=2), seconds=1.0, warm=0.3)
    assert 0 < figures["peak_tokens_a_second"] <= fake.machine.capacity
    assert fake.machine.most <= 2
    assert figures["loads"]["4x"]["refused"] + figures["loads"]["4x"]["answered"] > figures["loads"]["1x"]["answered"]
    assert figures["flooder_refused"] >= figures["calm_refused"]
    assert not any(row["failed"] for row in figures["loads"].values())
