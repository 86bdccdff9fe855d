"""Row 34: the broker delivers a task twice, or takes a worker that is at it for dead. There is one document all the
same, embedded and paid for once."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.inference import Reply
from tests.faults.ingesting import Works, manual

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


async def test_several_messages_for_one_document(works: Works) -> None:
    canary = works.world.askers[0].canary
    works.world.model.script(Reply(kind="embedding", first_delay=0.3, always=True))
    document = await works.upload(manual(30, canary))
    with works.world.stores.redis.client() as redis:
        [message] = redis.lrange("documents", 0, -1)
        redis.lpush("documents", *[message] * works.world.moment(2, 5))
    workers = [works.worker(concurrency=2), works.worker(concurrency=2)]
    await works.becomes(document, "ready")
    await works.until(lambda: works.waiting_messages() == 0)
    await asyncio.sleep(0.5)  # the last of them is claimed in vain
    sent = works.embedded(canary)
    assert len(sent) == len(set(sent)), "embedded twice"
    works.is_whole(document, set(sent))
    assert sum(works.log(worker).count('"document.ready"') for worker in workers) == 1


async def test_a_visibility_timeout_that_is_too_short(works: Works) -> None:
    """Redis gives the message of a document at which a worker is to another one."""
    canary = works.world.askers[0].canary
    works.embed_at_first(1)
    works.worker()
    works.worker()
    document = await works.upload(manual(60, canary))
    await works.stored_at_first(document, 1)
    works.give_again()
    await works.until(lambda: works.deliveries() > 1)
    works.world.model.hurry()
    await works.becomes(document, "ready")
    sent = works.embedded(canary)
    assert len(sent) == len(set(sent)), "embedded twice"
    works.is_whole(document, set(sent))
