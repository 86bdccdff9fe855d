"""What a question may cost, reserved by Redis while PostgreSQL writes the question."""

from __future__ import annotations

import asyncio

from apps.conversations import charging
from apps.conversations.writing import Planned
from apps.edge.errors import ServiceUnavailable
from apps.usage import meter
from apps.usage.meter import Reserved
from chatbot.errors import QuotaExceeded, RateLimited


class Reservation:
    """Being made for a planned question from now on."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self._making = asyncio.create_task(self._make())

    async def _make(self) -> Reserved:
        try:
            return await charging.reserve(self.planned.caller, self.planned.opened)
        except ServiceUnavailable:
            return Reserved(charging.most(self.planned.opened), unmetered=True)

    async def made(self) -> Reserved:
        """What was reserved. Raises QuotaExceeded or RateLimited."""
        return await asyncio.shield(self._making)

    async def within(self, seconds: float) -> Reserved:
        """The same. Raises LateError where it takes longer than that."""
        await asyncio.wait([self._making], timeout=seconds)
        if not self._making.done():
            raise LateError(self)
        return self._making.result()

    async def give_back(self) -> None:
        """Of a question that was not written."""
        try:
            reserved = await self.made()
        except (QuotaExceeded, RateLimited):
            return
        if not reserved.unmetered:
            await meter.settle(self.planned.caller.tenant, self.planned.opened.turn_id)


class LateError(Exception):
    """Redis takes longer than a transaction is held for it."""

    def __init__(self, reservation: Reservation) -> None:
        super().__init__()
        self.reservation = reservation
