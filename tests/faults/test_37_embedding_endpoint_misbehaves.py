"""Row 37: the embedding endpoint answers 500, or gives vectors of another dimension. The document says that it is tried
again, why and when; it fails in the end; and no index ever holds vectors of two kinds."""

from __future__ import annotations

import pytest

from tests.fakes.inference import Reply
from tests.faults.ingesting import Works, manual

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


@pytest.mark.parametrize("wrong", [{"status": 500}, {"dimension": 768}], ids=["500", "dimension"])
async def test_it_is_tried_again_then_fails_and_mixes_nothing(works: Works, wrong: dict[str, int]) -> None:
    canary = works.world.askers[0].canary
    model = works.world.model
    # The first batch is well.
    model.script(Reply(kind="embedding", when=canary), Reply(kind="embedding", always=True, **wrong))  # type: ignore[arg-type]
    # In a sweep, too: eight attempts as shipped take 25 minutes.
    works.worker(hurried=True)
    works.beat(hurried=True)
    document = await works.upload(manual(30, canary))
    seen = await works.becomes(document, "retrying")
    assert seen["failure"]["code"] in {"model_failed", "model_unavailable"}
    assert seen["failure"]["message"].endswith(".")
    assert seen["progress"]["done"] == 8
    seen = await works.becomes(document, "failed", seconds=120)
    assert seen["failure"]["code"] in {"model_failed", "model_unavailable"}
    assert works.count("knowledge_embedding", "dimension <> 384") == 0
    assert works.count("knowledge_chunk", "document_id = %s AND live", document) == 0
    assert works.count("usage_usagerecord", "document_id = %s AND state = 'reserved'", document) == 0
    model.script()
    assert await works.ask_for("retry", document) == 202
    await works.becomes(document, "ready", seconds=120)
    works.is_whole(document, set(works.embedded(canary)))
