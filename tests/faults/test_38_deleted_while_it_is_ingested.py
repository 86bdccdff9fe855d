"""Row 38: a document is deleted while it is ingested. It is gone, and stays so: no row, no passage, no vector and no
byte comes back, whether its worker lives or dies meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.inference import Reply
from tests.faults.ingesting import Works, kill, manual

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


async def delete(works: Works, document: str) -> None:
    while (status := await works.ask_for("delete", document)) == 503:  # noqa: ASYNC110 - its passages are just written
        await asyncio.sleep(0.5)
    assert status == 204


def nothing_is_left(works: Works, documents: list[str]) -> bool:
    return not works.stored() and not any(
        works.count(table, f"{column} = ANY(%s::uuid[])", documents)
        for table, column in (("knowledge_document", "id"), ("knowledge_chunk", "document_id"))
    )


async def test_at_any_moment(works: Works) -> None:
    works.world.model.script(Reply(kind="embedding", first_delay=0.2, always=True))
    worker = works.worker(concurrency=2)
    works.beat()
    vectors = works.count("knowledge_embedding")
    deleted = []
    for number in range(20 if works.world.full else 8):
        canary = works.world.askers[0].canary
        document = await works.upload(manual(20, f"{canary} {number}"))
        await works.becomes(document, "extracting", "chunking", "embedding", "ready")
        await asyncio.sleep(works.world.random.uniform(0, 0.8))
        await delete(works, document)
        assert (await works.look(document))["code"] == "not_found"
        deleted.append(document)
    await works.until(lambda: nothing_is_left(works, deleted))
    await works.until(lambda: works.waiting_messages() == 0)
    await asyncio.sleep(3)  # another round of the beat, and the batches that were under way
    assert nothing_is_left(works, deleted)
    assert works.count("knowledge_embedding") == vectors
    assert worker.poll() is None


async def test_and_its_worker_dies(works: Works) -> None:
    canary = works.world.askers[0].canary
    works.embed_at_first(1)
    worker = works.worker()
    works.beat()
    vectors = works.count("knowledge_embedding")
    document = await works.upload(manual(30, canary))
    await works.stored_at_first(document, 1)
    kill(worker)
    works.world.model.hurry()
    await delete(works, document)
    works.worker()
    await works.until(lambda: nothing_is_left(works, [document]))
    await asyncio.sleep(3)
    assert nothing_is_left(works, [document])
    assert works.count("knowledge_embedding") == vectors
