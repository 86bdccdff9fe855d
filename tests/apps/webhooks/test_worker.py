"""A real Celery worker delivers what was announced, and another one what a killed one had in its hands."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.core.cache import cache

from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit
from apps.webhooks import deliveries
from apps.webhooks.models import Delivery
from tests.apps.webhooks.conftest import make_due, make_webhook, only_delivery, told
from tests.apps.webhooks.receiver import Answer, Receiver


@contextmanager
def worker(log: Path, **settings: str) -> Iterator[None]:
    """A worker that ends as `kill -9` ends one: it can neither finish nor hand over anything."""
    command = [sys.executable, "-m", "celery", "-A", "config.celery", "worker", "--concurrency=1", "--loglevel=INFO"]
    environment = {**os.environ, "PARLEY_PRIVATE_WEBHOOK_HOSTS": "127.0.0.1", **settings}
    with (
        log.open("a") as out,
        subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle"], env=environment, stderr=out, start_new_session=True
        ) as process,
    ):
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


async def test_what_a_killed_worker_had_in_its_hands_arrives(acme: Tenant, receiver: Receiver, tmp_path: Path) -> None:
    await platform_unit(make_webhook, acme, receiver.url())
    receiver.script(Answer(hang=60))
    await told(acme)
    with worker(tmp_path / "log"):
        await receiver.received(1)
    # Leases end and beat looks again: clocks, which the test need not watch.
    await make_due(acme)
    await platform_unit(cache.clear)
    await platform_unit(deliveries.wake)
    with worker(tmp_path / "log"):
        await receiver.received(2)
        async with asyncio.timeout(60):
            while (delivery := await only_delivery(acme)).status == Delivery.Status.PENDING:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert (delivery.status, delivery.attempts) == ("delivered", 2)
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert '"event": "delivery.attempted"' in (tmp_path / "log").read_text()
