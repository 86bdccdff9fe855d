"""Lets few requests of one caller be at work at a time in a process, so that its crowd stands behind itself.

A process works at one thing at a time. Of forty requests that come together each step would wait for a step of all the
others, and so would that of a caller who sends a single one. Here all but ABREAST of a caller's wait before anything is
done for them, and nobody else waits behind more than those.

What waits for others, such as an answer's end, steps aside: it takes no time of this process, and may last. This is an
order and no limit: whoever has waited for PATIENCE goes on all the same, so that a crowd hears in time of a database or
a Redis that does not answer, and not two by two.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

ABREAST: Final = 2
PATIENCE: Final = 1.0  # seconds


@dataclass
class _Gate:
    """users: those inside and those that wait."""

    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ABREAST))
    users: int = 0


class _Passage:
    """gate: None where it takes no place."""

    def __init__(self, gate: _Gate | None) -> None:
        self._gate = gate

    def leave(self) -> None:
        if self._gate:
            self._gate.places.release()
            self._gate = None


_gates: dict[Hashable, _Gate] = {}
_passage: ContextVar[_Passage | None] = ContextVar("passage", default=None)


@asynccontextmanager
async def passing(caller: Hashable) -> AsyncIterator[None]:
    """Work for a caller, once it is its turn; as long as the block lasts, or until it steps aside."""
    gate = _gates.setdefault(caller, _Gate())
    gate.users += 1
    try:
        passage = _Passage(gate if await _placed(gate) else None)
        token = _passage.set(passage)
        try:
            yield
        finally:
            _passage.reset(token)
            passage.leave()
    finally:
        gate.users -= 1
        if not gate.users:
            del _gates[caller]


async def _placed(gate: _Gate) -> bool:
    try:
        async with asyncio.timeout(PATIENCE):
            return await gate.places.acquire()
    except TimeoutError:
        return False


def step_aside() -> None:
    """What follows waits for others: let the caller's next one in. Harmless where nobody passes."""
    if passage := _passage.get():
        passage.leave()
