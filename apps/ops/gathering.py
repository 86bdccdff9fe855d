"""What no process counts, since all share it: documents that wait and messages in the broker, read at each scrape.

Every web process tells the same, so a query takes the largest of them and never their sum.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.utils import timezone
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.asyncio import Redis
from redis.exceptions import RedisError

from apps.edge.queues import QUEUES
from apps.knowledge.backlog import backlog
from apps.knowledge.metrics import recall
from apps.knowledge.models import Document
from apps.tenants.routing import has_operator_login
from apps.tenants.scoping import platform_unit

log = structlog.get_logger(__name__)

SECONDS = 1.0  # that they may take together: whoever scrapes waits for them
WAITS = [status.value for status in Document.Status if status not in (Document.Status.READY, Document.Status.FAILED)]


class Shared(Collector):
    """What was read, as a registry collects it."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


async def shared() -> Shared:
    """Read it. What cannot be read is left out, and `parley_scrape_source_up` says so."""
    up = GaugeMetricFamily(
        "parley_scrape_source_up",
        "1 where what all processes share could be read there, else 0: postgresql, broker.",
        labels=["source"],
    )
    found = await asyncio.gather(*(_read(name, up, read) for name, read in _sources()))
    return Shared([up, *(family for families in found for family in families)])


def _sources() -> Iterator[tuple[str, Callable[[], Awaitable[list[Metric]]]]]:
    if has_operator_login():
        yield "postgresql", _known
    if urlsplit(settings.CELERY_BROKER_URL).scheme in ("redis", "rediss", "unix"):  # RabbitMQ has metrics of its own
        yield "broker", _messages


async def _read(name: str, up: GaugeMetricFamily, read: Callable[[], Awaitable[list[Metric]]]) -> list[Metric]:
    families: list[Metric] = []
    try:
        async with asyncio.timeout(SECONDS):
            families = await read()
    except (DatabaseError, RedisError, OSError, TimeoutError) as error:
        log.warning("metrics.not_read", source=name, error=type(error).__name__)
    up.add_metric([name], 1.0 if families else 0.0)
    return families


async def _known() -> list[Metric]:
    return [*await _documents(), await platform_unit(recall)]


async def _documents() -> list[Metric]:
    count = GaugeMetricFamily("parley_documents_waiting", "Documents that are not ready, by status.", labels=["status"])
    oldest = GaugeMetricFamily(
        "parley_documents_oldest_seconds",
        "Seconds since the oldest document was added that is in this status and was never ready.",
        labels=["status"],
    )
    now, found = timezone.now(), {one.status: one for one in await platform_unit(backlog)}
    for status in WAITS:
        one = found.get(status)
        count.add_metric([status], one.documents if one else 0)
        oldest.add_metric([status], max(0.0, (now - one.since).total_seconds()) if one and one.since else 0.0)
    return [count, oldest]


async def _messages() -> list[Metric]:
    family = GaugeMetricFamily(
        "parley_queue_messages", "Messages in the broker that no worker has taken, by queue.", labels=["queue"]
    )
    async with (
        Redis.from_url(settings.CELERY_BROKER_URL, socket_timeout=SECONDS) as client,
        client.pipeline(transaction=False) as pipe,
    ):
        for queue in QUEUES:
            pipe.llen(queue)
        lengths = await pipe.execute()
    for queue, length in zip(QUEUES, lengths, strict=True):
        family.add_metric([queue], length)
    return [family]
