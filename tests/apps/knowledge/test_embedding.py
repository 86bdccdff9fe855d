"""How passages get their vectors: several batches at a time, whatever the endpoint says of it."""

from __future__ import annotations

import random
import struct
import uuid

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.knowledge import embedding, vectors
from apps.knowledge.embedding import Pace, next_size
from apps.knowledge.models import Chunk, Collection, Document, Embedding
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from chatbot.errors import ModelFailed
from tests.apps.knowledge.ingesting import added, embedded, ingested, manual
from tests.fakes.inference import FakeInference, Reply
from tests.fakes.vectors import DIMENSION


def half(numbers: list[float]) -> list[float]:
    """Rounded as the index rounds them."""
    form = f"{len(numbers)}e"
    return list(struct.unpack(form, struct.pack(form, *numbers)))


def make_chunk(document: Document, position: int) -> Chunk:
    chunk: Chunk = Chunk.objects.create(
        tenant_id=document.tenant_id,
        document=document,
        collection_id=document.collection_id,
        position=position,
        text=f"Passage {position}.",
        tokens=3,
        digest=f"{position}",
    )
    return chunk


def whole(document: Document) -> bool:
    """Each passage was stored with one vector, and each vector is of its own passage."""
    rows = Embedding.objects.for_tenant(document.tenant_id).filter(chunk__document=document, live=True)
    return rows.count() == rows.values("chunk").distinct().count() == document.passages


@pytest.mark.parametrize("sections", [1, 7, 8, 150])
def test_each_passage_is_embedded_once(
    acme: Tenant, manuals: Collection, embeddings: FakeInference, sections: int
) -> None:
    document = ingested(acme, added(acme, manuals, manual(sections)))
    sent = embedded(embeddings)
    assert document.status == "ready"
    assert len(sent) == len(set(sent)) == document.passages >= sections
    assert whole(document)


def test_several_batches_are_under_way_at_a_time(acme: Tenant, manuals: Collection, embeddings: FakeInference) -> None:
    embeddings.script(Reply(kind="embedding", first_delay=1.0, always=True))
    document = ingested(acme, added(acme, manuals, manual(64)))
    assert document.status == "ready"
    assert embeddings.most_at_once == embedding.AT_ONCE
    assert whole(document)


def test_no_more_than_the_endpoint_takes(
    acme: Tenant, manuals: Collection, embeddings: FakeInference, endpoint: object
) -> None:
    type(endpoint).objects.update(limit=1)  # type: ignore[attr-defined]
    embeddings.script(Reply(kind="embedding", first_delay=0.1, always=True))
    assert ingested(acme, added(acme, manuals, manual(40))).status == "ready"
    assert embeddings.most_at_once == 1


def test_a_busy_endpoint_is_asked_again_when_it_says(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    busy = Reply(kind="embedding", status=429, headers={"Retry-After": "1"})
    embeddings.script(Reply(kind="embedding"), busy, Reply(kind="embedding"), busy)
    document = ingested(acme, added(acme, manuals, manual(64)))
    assert (document.status, document.attempts) == ("ready", 0)
    assert whole(document)


def test_batches_that_are_refused_together_are_each_asked_again(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    slow = Reply(kind="embedding", first_delay=0.4)
    busy = Reply(kind="embedding", status=429, headers={"Retry-After": "1"}, first_delay=0.4)
    embeddings.script(*[slow] * 3, *[busy] * (embedding.ASKED_AGAIN + 1))
    document = ingested(acme, added(acme, manuals, manual(100)))
    assert (document.status, document.attempts) == ("ready", 0)
    assert whole(document)


def test_one_that_is_busy_for_long_gives_the_worker_to_others(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    busy = Reply(kind="embedding", status=429, headers={"Retry-After": "120"}, always=True)
    embeddings.script(Reply(kind="embedding"), busy)
    document = ingested(acme, added(acme, manuals, manual(20)))
    assert (document.status, document.failure_code) == ("retrying", "model_busy")
    assert (document.next_attempt_at - document.updated).total_seconds() > 115
    assert document.progress_done == embedding.FIRST_BATCH
    first = embedded(embeddings)[: embedding.FIRST_BATCH]
    embeddings.recover()
    embeddings.requests.clear()
    assert ingested(acme, document).status == "ready"
    assert not set(first) & set(embedded(embeddings))
    assert whole(document)


def test_what_is_under_way_beside_a_batch_that_fails_is_stored(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    slow = Reply(kind="embedding", first_delay=0.5)
    embeddings.script(Reply(kind="embedding", first_delay=0.3), Reply(kind="embedding", status=500), slow)
    document = ingested(acme, added(acme, manuals, manual(40)))
    assert (document.status, document.failure_code) == ("retrying", "model_failed")
    assert document.progress_done == 2 * embedding.FIRST_BATCH
    assert ingested(acme, document).status == "ready"
    assert whole(document)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=60), st.integers(1, 8))
def test_the_pace_stays_within_its_bounds(answers: list[tuple[bool, float]], most: int) -> None:
    pace = Pace(most)
    for answered, seconds in answers:
        before = pace.size
        if answered:
            pace.stored(pace.size, seconds)
            assert pace.size == next_size(before, seconds)
        else:
            pace.refused()
            assert pace.size == before
        assert 1 <= pace.at_once <= most
        assert 1 <= pace.size <= embedding.LARGEST_BATCH


def test_a_vector_is_stored_as_it_is(acme: Tenant, manuals: Collection) -> None:
    document = added(acme, manuals, manual(1))

    @given(st.integers(0, 2**32), st.integers(1, 3))
    @settings(max_examples=20)
    def stored(seed: int, passages: int) -> None:
        chance = random.Random(seed)
        made = [half([chance.uniform(-9, 9) for _ in range(DIMENSION)]) for _ in range(passages)]
        with tenant_scope(acme):
            Chunk.objects.filter(document=document).discard()
            vectors.store(
                document, manuals.index, [make_chunk(document, position) for position in range(passages)], made
            )
            rows = Embedding.objects.for_tenant(acme).order_by("chunk__position")
            assert [half(row.vector) for row in rows] == made  # it is told in fewer digits
            assert {(row.pk.version, row.pk.variant) for row in rows} == {(7, uuid.RFC_4122)}
            assert sorted(row.pk for row in rows) == [row.pk for row in rows]

    stored()


@pytest.mark.parametrize("number", [65_520, -1e6, 1e300])
def test_numbers_that_no_vector_holds_store_nothing(acme: Tenant, manuals: Collection, number: float) -> None:
    document = added(acme, manuals, manual(1))
    with pytest.raises(ModelFailed), tenant_scope(acme):
        vectors.store(document, manuals.index, [make_chunk(document, 0)], [[number] * DIMENSION])
    assert not Embedding.objects.for_tenant(acme).exists()


def test_vectors_are_copied_as_postgres_itself_writes_them(database: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT vector_send('[1,-2,0.5]'::vector)")
        [(sent,)] = cursor.fetchall()
    assert bytes(sent) == struct.pack(">HH3f", 3, 0, 1, -2, 0.5)
