"""How a GPU behaves under load: so many answers at once, each the slower the more there are, and a queue before them.

Continuous batching computes one token of every running answer in a step; a step takes longer the more answers share
it, but less than in proportion (Yu et al., Orca, OSDI 2022, section 6). So what it writes in a second grows with the
answers up to `slots`, and then stays; who comes then waits in line, and beyond that line is refused as the dialect
refuses: vLLM with max_num_queued_reqs (config/scheduler.py), TGI beyond --max-concurrent-requests (infer/mod.rs).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


class Full(Exception):
    """No slot is free, and no place in the line before them."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a server tells of itself in /metrics. cache: the part of it that is in use, 0 to 1."""

    running: int = 0
    waiting: int = 0
    cache: float = 0.0


@dataclass(slots=True)
class Machine:
    """slots: answers at once (vLLM's --max-num-seqs). queue: how many more may wait for one. tokens_per_second: of an
    answer that runs alone. sharing: by what part of a step each further answer lengthens it. prefill: tokens of prompts
    a second, before the first token."""

    slots: int = 8
    queue: int = 0
    tokens_per_second: float = 50.0
    sharing: float = 0.02
    prefill: float = 20_000.0
    running: int = field(default=0, init=False)
    most: int = field(default=0, init=False)  # that ever ran at once
    refused: int = field(default=0, init=False)
    _line: deque[asyncio.Future[None]] = field(default_factory=deque, init=False)

    @property
    def load(self) -> Load:
        return Load(self.running, len(self._line), self.running / self.slots)

    @property
    def step(self) -> float:
        """Seconds to the next token of each running answer."""
        return (1 + self.sharing * (self.running - 1)) / self.tokens_per_second

    @property
    def capacity(self) -> float:
        """Tokens a second when every slot is taken."""
        return self.slots * self.tokens_per_second / (1 + self.sharing * (self.slots - 1))

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A slot, as soon as one is free. Raises Full."""
        if self.running < self.slots:
            self.running += 1
        else:
            await self._wait()  # whoever leaves passes the slot on, so nobody overtakes
        self.most = max(self.most, self.running)
        try:
            yield
        finally:
            self._leave()

    async def _wait(self) -> None:
        if len(self._line) >= self.queue:
            self.refused += 1
            raise Full
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._leave()  # it was ours already
            else:
                self._line.remove(mine)
            raise

    def _leave(self) -> None:
        if self._line:
            self._line.popleft().set_result(None)
        else:
            self.running -= 1
