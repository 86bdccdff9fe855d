"""Takes due deliveries to their webhooks: all webhooks side by side, so that a slow one holds nobody else up.

One courier is at work at a time, whatever the number of workers: receivers that hang occupy one of their slots and not
all. That is thrift and not what keeps deliveries from going out twice, which attempts.claim() does.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress

import aiohttp
import structlog
from django.core.cache import cache
from django_redis.exceptions import ConnectionInterrupted

from apps.tenants.scoping import platform_unit, unit
from apps.webhooks import attempts, deliveries, sending
from apps.webhooks.models import Delivery, Webhook

log = structlog.get_logger(__name__)

# Webhooks served at a time; the others wait their turn, those that waited longest first.
LANES = 50
# How long new deliveries are taken up; those on their way then take sending.TOTAL_SECONDS at most. Documents wait for
# the worker meanwhile.
ROUND_SECONDS = 5.0
LOOK_EVERY = 0.25
_AT_WORK = "webhooks:courier"


async def run() -> None:
    """Deliver what is due, unless somebody is at it. What is left after a round is sent to the workers again."""
    if not await _begin():
        return
    try:
        async with sending.session() as client:
            failed = await _round(client, time.monotonic() + ROUND_SECONDS)
    finally:
        await _end()
    # Only now: who was announced while we were at work saw us there and left. Those that failed wait for the beat.
    if {webhook_id for _, webhook_id in await platform_unit(attempts.waiting, LANES)} - failed:
        await platform_unit(deliveries.wake)


async def _begin() -> bool:
    """False where another courier is at work. Without the cache there may be several, which only costs their slots."""
    try:
        return await cache.aadd(_AT_WORK, 1, timeout=ROUND_SECONDS + sending.TOTAL_SECONDS + 10)
    except ConnectionInterrupted:
        return True


async def _end() -> None:
    with suppress(ConnectionInterrupted):
        await cache.adelete(_AT_WORK)


async def _round(client: aiohttp.ClientSession, until: float) -> set[uuid.UUID]:
    """Returns the webhooks that could not be served for a reason of ours: one is not to stop the others."""
    lanes: dict[uuid.UUID, asyncio.Task[None]] = {}
    failed: set[uuid.UUID] = set()
    try:
        while True:
            failed |= _take_out_ended(lanes)
            if time.monotonic() < until:
                for tenant_id, webhook_id in await platform_unit(attempts.waiting, LANES):
                    if webhook_id not in failed and webhook_id not in lanes and len(lanes) < LANES:
                        lanes[webhook_id] = asyncio.create_task(_lane(client, tenant_id, webhook_id, until))
            if not lanes:
                return failed
            await asyncio.wait(lanes.values(), timeout=LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for lane in lanes.values():
            lane.cancel()
        await asyncio.gather(*lanes.values(), return_exceptions=True)


def _take_out_ended(lanes: dict[uuid.UUID, asyncio.Task[None]]) -> set[uuid.UUID]:
    """Take out the lanes that have ended; returns those that failed."""
    failed = set()
    for webhook_id in [webhook_id for webhook_id, lane in lanes.items() if lane.done()]:
        if (error := lanes.pop(webhook_id).exception()) is not None:
            log.error("webhook.not_served", webhook=str(webhook_id), exc_info=error)
            failed.add(webhook_id)
    return failed


async def _lane(client: aiohttp.ClientSession, tenant_id: uuid.UUID, webhook_id: uuid.UUID, until: float) -> None:
    """The due deliveries of one webhook, a few at once."""
    while time.monotonic() < until and (claimed := await unit(attempts.claim, tenant_id, webhook_id)):
        webhook, due = claimed
        with structlog.contextvars.bound_contextvars(tenant=webhook.tenant.slug):
            await asyncio.gather(*(attempt(client, webhook, delivery) for delivery in due))


async def attempt(client: aiohttp.ClientSession, webhook: Webhook, delivery: Delivery) -> sending.Result:
    result = await sending.send(client, webhook, delivery)
    await unit(attempts.settle, webhook, delivery, result)
    return result


async def test(webhook: Webhook) -> sending.Result:
    """Send a test event now, and once; whether the webhook is on does not matter."""
    delivery = await unit(deliveries.write_test, webhook, lease=attempts.LEASE)
    async with sending.session() as client:
        return await attempt(client, webhook, delivery)
