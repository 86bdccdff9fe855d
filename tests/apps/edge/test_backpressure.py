"""When a client is let go, told by a connection whose client reads as the test says. With real servers and sockets:
tests/faults/test_30_client_that_never_reads.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from apps.edge import backpressure
from apps.edge.backpressure import LIMIT, BackPressure, Outflow, wire_of


class Line:
    """A connection; `reads` says how much of what waits its client takes at each look."""

    def __init__(self, reads: Callable[[], int]) -> None:
        self.reads = reads
        self.bytes = 0
        self.sent: list[int] = []
        self.was_cut = False

    def waiting(self) -> int:
        self.bytes = max(0, self.bytes - self.reads())
        return self.bytes

    def ending(self) -> bool:
        return self.was_cut

    def cut(self) -> None:
        self.was_cut = True

    async def send(self, size: int) -> None:
        self.bytes += size
        self.sent.append(size)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is let go at the second look that finds nothing taken."""
    monkeypatch.setattr(backpressure, "STALL_SECONDS", 0.0)
    monkeypatch.setattr(backpressure, "LOOK_SECONDS", 0.0)


async def test_whoever_reads_gets_all_of_it() -> None:
    line = Line(reads=lambda: 1000)
    outflow = Outflow(line, line.send)
    for _ in range(100):
        await outflow.send(50_000)
    assert sum(line.sent) == 5_000_000
    assert not line.was_cut


async def test_one_event_may_be_larger_than_what_may_wait() -> None:
    line = Line(reads=lambda: 0)
    await Outflow(line, line.send).send(10 * LIMIT)
    assert not line.was_cut


async def test_whoever_takes_nothing_is_let_go_and_gets_no_more() -> None:
    line = Line(reads=lambda: 0)
    outflow = Outflow(line, line.send)
    while not line.was_cut:
        await outflow.send(50_000)
    await outflow.send(50_000)
    assert LIMIT < sum(line.sent) <= LIMIT + 50_000


async def test_as_long_as_it_reads_anything_it_only_waits() -> None:
    taken = iter([1] * 500 + [LIMIT])
    line = Line(reads=lambda: next(taken))
    outflow = Outflow(line, line.send)
    line.bytes = 2 * LIMIT
    await outflow.send(1)
    assert not line.was_cut
    assert line.sent == [1]


async def test_it_counts_against_the_client_and_not_against_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that resumes again and again cancels who waited for it, and still has not read."""
    monkeypatch.setattr(backpressure, "STALL_SECONDS", 0.05)
    line = Line(reads=lambda: 0)
    outflow = Outflow(line, line.send)
    line.bytes = LIMIT + 1
    async with asyncio.timeout(30):
        while not line.was_cut:
            waiter = asyncio.create_task(outflow.send(1))
            await asyncio.sleep(0.02)
            waiter.cancel()


async def test_where_there_is_no_connection_nothing_is_held_back() -> None:
    seen: list[Any] = []

    async def application(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        await send({"type": "x"})

    queue: asyncio.Queue[Any] = asyncio.Queue()
    assert wire_of(queue.put) is None
    for kind in ("http", "websocket", "lifespan"):
        await BackPressure(application)({"type": kind}, queue.get, queue.put)
        seen.append(queue.get_nowait())
    assert seen == [{"type": "x"}] * 3
