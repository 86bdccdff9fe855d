"""Row 35: the broker forgets a task before a worker has it. The rows know of the document: it is sent again within two
minutes, and ingested once."""

from __future__ import annotations

import time

import pytest

from tests.faults.ingesting import Works, manual

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


async def test_it_is_sent_again(works: Works) -> None:
    canary = works.world.askers[0].canary
    document = await works.upload(manual(12, canary))
    assert works.waiting_messages() == 1
    works.world.stores.redis.forget()
    lost = time.monotonic()
    works.worker()
    works.beat()
    if not works.world.full:
        # A minute later: until then a worker may still be about to take it.
        rows = "UPDATE knowledge_document SET next_attempt_at = now() WHERE id = %s RETURNING id"
        works.world.stores.postgres.rows(rows, document)
    await works.becomes(document, "ready", seconds=200)
    works.world.took(time.monotonic() - lost, promised=120)
    works.is_whole(document, set(works.embedded(canary)))
