"""Row 33 with RabbitMQ for a broker: from its upload to its deletion a document goes the same way as on Redis, also
where its worker dies and the broker hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from typing import Any

import pytest

from apps.ops import doctor
from tests.faults.ingesting import Works, kill, manual
from tests.faults.rabbit import IS_THERE

pytestmark = [
    pytest.mark.journey,
    pytest.mark.fault,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not IS_THERE, reason="needs RabbitMQ: apt-get install rabbitmq-server"),
]


async def test_a_document_goes_the_same_way(
    works_on_rabbit: tuple[Works, subprocess.Popen[str]], settings: Any
) -> None:
    works, server = works_on_rabbit
    canary = works.world.askers[0].canary
    works.embed_at_first(1)
    os.killpg(server.pid, signal.SIGSTOP)
    begun = time.monotonic()
    document = await works.upload(manual(60, canary))
    assert time.monotonic() - begun < 30, "an upload waited for the broker"
    os.killpg(server.pid, signal.SIGCONT)
    assert (await works.look(document))["status"] == "queued"
    dies = works.worker()
    works.beat()
    works.hurry(document)
    await works.stored_at_first(document, 1)
    for address, found in {
        works.broker: ("ok", "1 answering"),
        works.broker.replace("guest:guest", "guest:wrong"): ("fail", "ACCESS_REFUSED"),
    }.items():
        settings.CELERY_BROKER_URL = address
        [finding] = await asyncio.to_thread(lambda: list(doctor.worker()))
        assert finding.level == found[0]
        assert found[1] in finding.says
    kill(dies)
    works.world.model.hurry()
    kept = works.stored_texts(document)
    assert kept
    works.hurry(document)
    works.world.model.forget()
    worker = works.worker()
    await works.becomes(document, "ready", seconds=200)
    again = works.embedded(canary)
    assert not kept & set(again), "what was stored is embedded a second time"
    works.is_whole(document, kept | set(again))
    assert works.stored()
    assert await works.ask_for("delete", document) == 204
    await works.until(lambda: not works.stored())
    assert works.count("knowledge_chunk", "document_id = %s", document) == 0
    assert (await works.look(document))["code"] == "not_found"
    # More of both tenants than workers take at once.
    sent = await asyncio.gather(*(works.upload(manual(3, f"of{n}"), f"{n}.md", asker=n % 2) for n in range(6)))
    for n, one in enumerate(sent):
        await works.becomes(one, "ready", asker=n % 2)
    assert worker.poll() is None
