"""Row 33: a worker dies (kill -9) in the middle of a document. Another one goes on from the last stored batch within
two minutes; nothing is half visible meanwhile, and all is paid for once."""

from __future__ import annotations

import time

import pytest

from tests.faults.ingesting import Works, has_ended, kill, manual, sheet

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


async def test_another_goes_on_from_the_last_stored_batch(works: Works) -> None:
    canary = works.world.askers[0].canary
    batches = works.world.moment(1, 4)
    works.embed_at_first(batches)
    dies = works.worker()
    works.beat()
    document = await works.upload(manual(60, canary))
    await works.stored_at_first(document, batches)
    kill(dies)
    died = time.monotonic()
    works.world.model.hurry()
    works.hurry(document)
    kept = works.stored_texts(document)
    assert len(kept) == works.progress(document)
    assert not [text for text in await works.found("valve rotor gauge") if canary in text and "valve" in text]
    assert works.count("knowledge_chunk", "document_id = %s AND live", document) == 0
    works.world.model.forget()
    works.worker()
    assert (await works.look(document))["status"] == "embedding"
    await works.becomes(document, "ready", seconds=200)
    works.world.took(time.monotonic() - died, promised=120)
    again = works.embedded(canary)
    assert not kept & set(again), "what was stored is embedded a second time"
    assert len(again) == len(set(again)), "nobody died any more"
    works.is_whole(document, kept | set(again))


async def test_another_reads_it_again_where_the_reader_was_at_it(works: Works) -> None:
    """The process that reads the file ends with its worker: nothing else would watch over it."""
    dies = works.worker()
    works.beat()
    document = await works.upload(sheet(3, blank=16_000_000), "parts.csv")
    reader = await works.reading(dies)
    assert (await works.look(document))["status"] == "extracting"
    kill(dies)
    died = time.monotonic()
    works.hurry(document)
    await works.until(lambda: has_ended(reader))
    assert works.count("knowledge_chunk", "document_id = %s", document) == 0
    works.worker()
    await works.becomes(document, "ready", seconds=200)
    works.world.took(time.monotonic() - died, promised=120)
    works.is_whole(document, set(works.embedded("part 2")))
