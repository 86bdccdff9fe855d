"""Looks each second at what a web process has no moment to count: how late its event loop is, who waits for what."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from django.db import connections

from apps.edge.metrics import LOOP_LAG_SECONDS
from apps.tenants.metrics import DATABASE_WAITING

EVERY_SECONDS = 1.0


async def look() -> NoReturn:
    """Until it is cancelled."""
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + EVERY_SECONDS
        await asyncio.sleep(EVERY_SECONDS)
        LOOP_LAG_SECONDS.observe(max(0.0, clock() - due))
        pool = connections["default"].pool  # type: ignore[attr-defined]  # PostgreSQL's has one
        DATABASE_WAITING.set(pool.get_stats().get("requests_waiting", 0))
