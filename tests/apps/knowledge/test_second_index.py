"""A second index beside the one in use: built in the background, kept up, switched to and back, dropped."""

from __future__ import annotations

import datetime
import threading
from collections import deque
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import IntegrityError
from django.test import Client
from django.utils import timezone

from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge import embedding, lease, vectors
from apps.knowledge.collections import create_collection, delete_collection
from apps.knowledge.ingest import delete_document, replace_document
from apps.knowledge.models import Chunk, Collection, Document, Embedding, SecondIndex
from apps.knowledge.search import find
from apps.knowledge.second import building, changing, keeping, lacking, tasks
from apps.tenants.models import AuditEntry, Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage.models import UsageRecord
from chatbot.errors import InvalidRequest
from tests.apps.knowledge.asking import client_of, post, refused
from tests.apps.knowledge.ingesting import added, in_thread, ingested, manual, until
from tests.apps.knowledge.second import WIDER, other_model, second_of, slice_done, whole
from tests.environment import Backends
from tests.factories import make_quota
from tests.fakes.inference import FakeInference, Reply

PATH = "collections/manuals/second-index"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
def other(endpoint: Endpoint, embeddings: FakeInference) -> Endpoint:
    return other_model(embeddings)


@pytest.fixture
def api(acme: Tenant) -> Client:
    return client_of(acme)


def shown(api: Client) -> dict[str, Any]:
    body: dict[str, Any] = api.get("/api/v1/collections/manuals").json()
    return body


def wide(embeddings: FakeInference, *replies: Reply) -> None:
    """What the other model's endpoint answers: vectors of its dimension, after these replies."""
    embeddings.script(*replies, Reply(kind="embedding", model="wide", dimension=WIDER, always=True))


def found(api: Client, query: str = "valve one 2") -> list[str]:
    response = post(api, "search", {"collection": "manuals", "query": query})
    assert response.json()["timings"]["degraded"] == []
    return [hit["chunk"] for hit in response.json()["results"] if hit["scores"]["vector"] is not None]


# --- Building, switching, dropping ------------------------------------------------------------------------------------


def test_it_is_built_switched_to_and_back_and_dropped(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference, api: Client
) -> None:
    wide(embeddings)
    document = ingested(acme, added(acme, manuals, manual(20)))
    first = manuals.index_id
    assert shown(api)["second_index"] is None
    assert shown(api)["index"] == {"model": manuals.index.model, "dimension": manuals.index.dimension}
    begun = post(api, PATH, {"model": "wide"})
    assert begun.status_code == 202
    assert begun.json()["second_index"]["state"] == "building"
    refused(post(api, PATH, {"model": "wide"}), 400, "model")
    assert refused(post(api, f"{PATH}/switch", {}), 400)["message"].startswith("The second index is not ready")

    slice_done(manuals)
    told = shown(api)["second_index"]
    assert (told["model"], told["dimension"], told["state"], told["switched"]) == ("wide", WIDER, "ready", False)
    assert told["progress"] == {"done": document.passages, "total": document.passages}
    second = second_of(manuals)
    assert whole(acme, manuals, first)
    assert whole(acme, manuals, second.index_id)
    # Billed as the ingestion that it is.
    billed = UsageRecord.objects.for_tenant(acme).filter(document_id=second.pk)
    assert {(row.kind, row.state, row.bill, row.endpoint) for row in billed} == {
        ("ingestion", "settled", "once", other)
    }

    asked = len(embeddings.requests)
    assert found(api)
    assert {request.payload["model"] for request in embeddings.requests[asked:]} == {manuals.index.model}
    assert post(api, f"{PATH}/switch", {}).json()["index"] == {"model": "wide", "dimension": WIDER}
    assert shown(api)["second_index"]["switched"]
    asked = len(embeddings.requests)
    assert found(api)
    assert {request.payload["model"] for request in embeddings.requests[asked:]} == {"wide"}
    back = post(api, f"{PATH}/switch", {}).json()
    assert (back["index"]["model"], back["second_index"]["switched"]) == (manuals.index.model, False)

    assert api.delete(f"/api/v1/{PATH}").json()["second_index"]["state"] == "dropping"
    assert second_of(manuals).next_slice_at > timezone.now() + datetime.timedelta(seconds=30)  # searches go on
    assert slice_done(manuals) is None
    assert not Embedding.objects.for_tenant(acme).filter(index=second.index_id).exists()
    assert whole(acme, manuals, first)
    assert found(api)
    refused(api.delete(f"/api/v1/{PATH}"), 404)
    actions = AuditEntry.objects.filter(action__startswith="second_index").order_by("at")
    assert [entry.action.partition(".")[2] for entry in actions] == ["built", "switched", "switched", "dropped"]


def test_only_a_model_that_is_served_and_not_in_use_is_offered(
    acme: Tenant, globex: Tenant, manuals: Collection, other: Endpoint, api: Client
) -> None:
    body = refused(post(api, PATH, {"model": manuals.index.model}), 400, "model")
    assert body["fields"]["model"] == f"One of wide ({WIDER})."
    refused(post(api, PATH, {"model": "wide", "dimension": 7}), 400, "model")
    refused(post(api, PATH, {}), 400, "model")
    other.tenants.set([globex])
    gateway.forget()
    assert refused(post(api, PATH, {"model": "wide"}), 400, "model")["fields"]["model"].startswith("No other")


def test_the_same_model_is_offered_where_it_can_only_be_had_elsewhere(
    acme: Tenant, manuals: Collection, endpoint: Endpoint, embeddings: FakeInference
) -> None:
    moved = other_model(embeddings, model=endpoint.model, dimension=endpoint.dimension)
    with tenant_scope(acme):
        assert changing.models(acme, manuals) == []
        Endpoint.objects.filter(pk=endpoint.pk).update(enabled=False)
        assert changing.models(acme, manuals) == [moved]


def test_an_empty_collection_switches_at_once(acme: Tenant, manuals: Collection, other: Endpoint) -> None:
    changing.build(acme, manuals, "wide")
    slice_done(manuals)
    changing.switch(acme, manuals)
    manuals.refresh_from_db()
    assert manuals.index.model == "wide"


# --- Beside ingestion -------------------------------------------------------------------------------------------------


def test_documents_that_come_and_go_meanwhile_are_in_both(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    wide(embeddings)
    first = manuals.index_id
    stays, changes, goes = (
        ingested(acme, added(acme, manuals, manual(4, version=name), f"{name}.md")) for name in ("a", "b", "c")
    )
    changing.build(acme, manuals, "wide")
    delete_document(acme, goes)
    replace_document(acme, changes, name="b.md", content=manual(5, version="d"))
    ingested(acme, changes)
    ingested(acme, added(acme, manuals, manual(3, version="e"), "e.md"))
    second = slice_done(manuals)
    assert second is not None
    assert second.state == "ready"
    for switched in (False, True):
        if switched:
            changing.switch(acme, manuals)
        ingested(acme, added(acme, manuals, manual(3, version=f"f {switched}"), "f.md"))
        replace_document(acme, stays, name="a.md", content=manual(4, version=f"g {switched}"))
        ingested(acme, stays)
        assert second_of(manuals).state == "ready"
        assert whole(acme, manuals, first)
        assert whole(acme, manuals, second.index_id)
    assert Document.objects.for_tenant(acme).exclude(status="ready").count() == 0


def test_the_release_before_finishes_no_document_in_an_index_that_is_not_in_use(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not look which index is in use by now, and takes the database's refusal for a storage that is away."""
    wide(embeddings)
    changing.build(acme, manuals, "wide")
    slice_done(manuals)
    document = added(acme, manuals, manual(4))

    async def switches_meanwhile(document: Document) -> None:
        await sync_to_async(changing.switch)(acme, manuals)

    with monkeypatch.context() as old:
        old.setattr(keeping, "embed", switches_meanwhile)
        old.setattr(keeping, "is_current", lambda _document: True)
        document = ingested(acme, document)
    assert (document.status, document.failure_code) == ("retrying", "storage")
    assert not Chunk.objects.for_tenant(acme).filter(document=document, live=True).exists()
    Document.objects.filter(pk=document.pk).update(next_attempt_at=timezone.now())
    assert ingested(acme, document).status == "ready"
    manuals.refresh_from_db()
    assert whole(acme, manuals, manuals.index_id)


def test_what_did_not_change_keeps_its_vectors_in_both(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    wide(embeddings)
    document = ingested(acme, added(acme, manuals, manual(6)))
    changing.build(acme, manuals, "wide")
    second = slice_done(manuals)
    assert second is not None
    sent = len(embeddings.requests)
    replace_document(acme, document, name="manual.md", content=manual(6) + b"# One more\n\nA new one.\n")
    ingested(acme, document)
    texts = [text for request in embeddings.requests[sent:] for text in request.payload["input"]]
    assert len(texts) == 2
    assert len(set(texts)) == 1
    assert whole(acme, manuals, second.index_id)


def test_a_document_goes_live_where_the_other_model_fails_and_is_made_up_for(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    wide(embeddings)
    ingested(acme, added(acme, manuals, manual(3)))
    changing.build(acme, manuals, "wide")
    slice_done(manuals)
    embeddings.recover()
    embeddings.script(Reply(kind="embedding", model="wide", status=500, always=True))
    document = ingested(acme, added(acme, manuals, manual(3, version="new"), "new.md"))
    assert document.status == "ready"
    assert second_of(manuals).state == "building"
    with pytest.raises(InvalidRequest, match="not ready"):
        changing.switch(acme, manuals)
    embeddings.recover()
    wide(embeddings)
    second = slice_done(manuals)
    assert second is not None
    assert second.state == "ready"
    assert whole(acme, manuals, second.index_id)


def test_a_document_that_was_read_for_the_former_index_goes_live_in_the_new_one(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    """The switch comes while its vectors are made: it is seen before it goes live."""
    changing.build(acme, manuals, "wide")
    slice_done(manuals)
    wide(embeddings, Reply(kind="embedding", model=manuals.index.model, held=True))
    document = added(acme, manuals, manual(3))
    with in_thread(lambda: ingested(acme, document)):
        until(lambda: bool(embeddings.requests))
        changing.switch(acme, manuals)
        embeddings.release()
    manuals.refresh_from_db()
    document.refresh_from_db()
    assert (document.status, manuals.index.model) == ("ready", "wide")
    assert document.progress_done == document.progress_total == document.passages
    assert whole(acme, manuals, manuals.index_id)
    assert whole(acme, manuals, second_of(manuals).index_id)


def test_a_gap_that_a_release_before_has_left_is_found_when_switching(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference, api: Client
) -> None:
    wide(embeddings)
    ingested(acme, added(acme, manuals, manual(3)))
    changing.build(acme, manuals, "wide")
    second = slice_done(manuals)
    assert second is not None
    one = Embedding.objects.for_tenant(acme).filter(index=second.index_id).values("pk")[:1]
    Embedding.objects.for_tenant(acme).filter(pk__in=list(one.values_list("pk", flat=True))).delete()
    told = refused(post(api, f"{PATH}/switch", {}), 400)["message"]
    assert told == f"The second index is not ready: {second.done - 1} of {second.total} passages have their vectors."
    assert (second_of(manuals).state, second_of(manuals).is_sent) == ("building", True)
    slice_done(manuals)
    assert post(api, f"{PATH}/switch", {}).json()["index"]["model"] == "wide"
    assert AuditEntry.objects.filter(action="second_index.switched").count() == 1


def test_a_document_goes_live_while_somebody_switches(
    servers: Backends, acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    """Neither waits for the other for ever, whoever comes first."""
    wide(embeddings)
    document = ingested(acme, added(acme, manuals, manual(3)))
    changing.build(acme, manuals, "wide")
    second = slice_done(manuals)
    assert second is not None
    # As before it goes live, where the other model failed.
    Chunk.objects.for_tenant(acme).filter(document=document).update(live=False)
    Embedding.objects.for_tenant(acme).filter(index=second.index_id).delete()
    goes_live = threading.Event()

    def switches() -> None:
        assert goes_live.wait(30)
        with tenant_scope(acme), pytest.raises(InvalidRequest, match="not ready"):
            changing.switch(acme, manuals)

    with in_thread(switches), tenant_scope(acme):
        Collection.objects.for_tenant(acme).select_for_update(no_key=True).get(pk=manuals.pk)
        goes_live.set()
        until(lambda: servers.superuser.execute(WAITING).fetchone() == (1,))
        assert keeping.is_current(document)


def test_searches_see_the_one_or_the_other_whole(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference, api: Client
) -> None:
    wide(embeddings)
    document = ingested(acme, added(acme, manuals, manual(30)))
    changing.build(acme, manuals, "wide")
    slice_done(manuals)
    expected = set(found(api))
    assert len(expected) == min(document.passages, 6)
    over = threading.Event()

    def search() -> None:
        while not over.is_set():
            assert len(found(api)) == len(expected)

    with in_thread(search), in_thread(search):
        for _ in range(10):
            changing.switch(acme, manuals)
        over.set()


def test_while_a_document_goes_live_its_collection_is_edited_but_not_switched(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference, api: Client
) -> None:
    wide(embeddings)
    document = ingested(acme, added(acme, manuals, manual(1)))
    changing.build(acme, manuals, "wide")
    slice_done(manuals)

    def edits() -> None:
        renamed = api.patch("/api/v1/collections/manuals", {"name": "Handbooks"}, content_type="application/json")
        assert renamed.json()["name"] == "Handbooks"
        told = refused(post(api, f"{PATH}/switch", {}), 503)
        assert told["message"].startswith("A large document of this collection goes live right now")
        assert told["retry_after"] == 5

    with tenant_scope(acme):
        assert keeping.is_current(document)
        with in_thread(edits):
            pass
    assert post(api, f"{PATH}/switch", {}).status_code == 200


def tokens_of(tenant: Tenant, work: Document | SecondIndex) -> int:
    rows = UsageRecord.objects.for_tenant(tenant).filter(document_id=work.pk)
    return sum(rows.values_list("prompt_tokens", flat=True))


def test_documents_that_are_written_to_come_later_and_cost_nothing_meanwhile(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    wide(embeddings)
    free, busy = (ingested(acme, added(acme, manuals, manual(4, version=name), f"{name}.md")) for name in ("a", "b"))
    second = changing.build(acme, manuals, "wide")
    for _ in range(2):
        with tenant_scope(acme):
            Document.objects.select_for_update().get(pk=busy.pk)
            with in_thread(lambda: slice_done(manuals)):
                pass
        assert tokens_of(acme, second) == tokens_of(acme, free)
        left = second_of(manuals)
        assert (left.state, left.attempts, left.done) == ("building", 0, free.passages)
        assert left.next_slice_at > left.updated
    slice_done(manuals)
    assert second_of(manuals).state == "ready"
    assert tokens_of(acme, second) == tokens_of(acme, free) + tokens_of(acme, busy)


@pytest.mark.parametrize("others", [0, 1])
def test_vectors_that_could_not_be_stored_are_a_loss(
    acme: Tenant, manuals: Collection, other: Endpoint, others: int
) -> None:
    """Somebody began to write to their document while they were made."""
    busy, *free = (
        ingested(acme, added(acme, manuals, manual(4, version=f"{n}"), f"{n}.md")) for n in range(1 + others)
    )
    second = changing.build(acme, manuals, "wide")

    def stored() -> None:
        with tenant_scope(acme):
            building._store(ours, batch, [[0.5] * WIDER] * len(batch.chunks))

    with tenant_scope(acme):
        ours = building.claim(acme.pk, second.pk, 0)
        assert ours is not None
        batch = building._reserved(ours, deque(lacking.first_live(ours, 100)), 100)
        assert batch is not None
        assert len(batch.chunks) == busy.passages * (1 + others)
    with tenant_scope(acme):
        Document.objects.select_for_update().get(pk=busy.pk)
        with in_thread(stored):
            pass
    assert second_of(manuals).done == busy.passages * others
    assert tokens_of(acme, second) == sum(tokens_of(acme, document) for document in free)
    row = UsageRecord.objects.for_tenant(acme).get(document_id=second.pk)
    assert (row.state, row.bill, row.reserved_tokens) == ("settled", "once" if others else "loss", 0)


# --- What fails -------------------------------------------------------------------------------------------------------


def test_one_whose_worker_died_goes_on_where_that_was(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    document = ingested(acme, added(acme, manuals, manual(30)))
    sent = len(embeddings.requests)
    wide(embeddings, *[Reply(kind="embedding", model="wide", dimension=WIDER)] * 2, Reply(
        kind="embedding", model="wide", dimension=WIDER, first_delay=3.0
    ))  # fmt: skip
    second = changing.build(acme, manuals, "wide")
    with tenant_scope(acme):
        ours = building.claim(acme.pk, second.pk, 0)
    assert ours is not None

    def works() -> None:
        with pytest.raises(lease.SupersededError):
            async_to_sync(building._built)(ours)

    with in_thread(works):
        until(lambda: Embedding.objects.for_tenant(acme).filter(index=second.index_id).count() >= 16)
        embeddings.recover()
        wide(embeddings)
        # As if it were dead: its lease runs out, and another takes over.
        SecondIndex.objects.for_tenant(acme).update(lease_until=timezone.now())
        stored = Embedding.objects.for_tenant(acme).filter(index=second.index_id).count()
        after = slice_done(manuals)
        assert after is not None
        assert (after.state, after.done) == ("ready", document.passages)
        assert whole(acme, manuals, second.index_id)
    texts = [text for request in embeddings.requests[sent:] for text in request.payload["input"]]
    assert len(texts) - len(set(texts)) <= document.passages - stored
    assert UsageRecord.objects.for_tenant(acme).filter(state="reserved").count() == 0


def test_a_message_that_comes_twice_is_good_for_one_slice(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    wide(embeddings)
    ingested(acme, added(acme, manuals, manual(3)))
    second = changing.build(acme, manuals, "wide")
    for _ in range(2):
        tasks.build_index(str(acme.pk), str(second.pk), 0)
    assert second_of(manuals).slices == 1


def test_another_dimension_fails_it_with_a_code_and_the_collection_works_on(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference, api: Client
) -> None:
    ingested(acme, added(acme, manuals, manual(3)))
    embeddings.script(Reply(kind="embedding", model="wide", dimension=WIDER + 1, always=True))
    changing.build(acme, manuals, "wide")
    slice_done(manuals)
    told = shown(api)["second_index"]
    assert told["state"] == "failed"
    assert told["failure"]["code"] == "model_failed"
    assert told["failure"]["message"] == f"The embedding server gave {WIDER + 1} dimensions where {WIDER} are expected."
    assert found(api)
    with pytest.raises(InvalidRequest, match="could not be built"):
        changing.switch(acme, manuals)
    assert not Embedding.objects.for_tenant(acme).filter(index=second_of(manuals).index_id).exists()

    embeddings.recover()
    wide(embeddings)
    assert post(api, f"{PATH}/retry", {}).json()["second_index"]["failure"] is None
    slice_done(manuals)
    assert shown(api)["second_index"]["state"] == "ready"


@pytest.mark.parametrize(("dimension", "whose"), [(WIDER + 1, "its own"), (384, "another index")])
def test_the_database_refuses_a_vector_of_another_dimension(
    acme: Tenant, manuals: Collection, other: Endpoint, dimension: int, whose: str
) -> None:
    ingested(acme, added(acme, manuals, manual(1)))
    second = changing.build(acme, manuals, "wide")
    chunk = Embedding.objects.for_tenant(acme).values_list("chunk", flat=True)[0]
    row = {"index_id": second.index_id, "chunk_id": chunk, "collection": manuals, "vector": [0.5] * dimension}
    with pytest.raises(IntegrityError), tenant_scope(acme):
        Embedding.objects.create(tenant=acme, dimension=WIDER if whose == "its own" else dimension, **row)


def test_an_endpoint_that_is_away_is_tried_again_and_then_given_up(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference, api: Client
) -> None:
    ingested(acme, added(acme, manuals, manual(3)))
    embeddings.script(Reply(kind="embedding", model="wide", status=500, always=True))
    changing.build(acme, manuals, "wide")
    slice_done(manuals)
    told = shown(api)["second_index"]
    assert (told["state"], told["failure"]["code"]) == ("retrying", "model_failed")
    assert second_of(manuals).next_slice_at > timezone.now() + datetime.timedelta(seconds=5)
    for _ in range(building.MAX_ATTEMPTS - 1):
        slice_done(manuals)
    assert shown(api)["second_index"]["state"] == "failed"
    changing.drop(acme, manuals)
    assert slice_done(manuals) is None


def test_without_quota_it_waits_and_says_so(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference, api: Client
) -> None:
    wide(embeddings)
    document = ingested(acme, added(acme, manuals, manual(10)))
    used = sum(UsageRecord.objects.for_tenant(acme).values_list("prompt_tokens", flat=True))
    quota = make_quota(tenant=acme, metric="ingestion", window="month", amount=used + used // 2)
    changing.build(acme, manuals, "wide")
    slice_done(manuals)
    told = shown(api)["second_index"]
    assert (told["state"], told["failure"]["code"]) == ("waiting", "quota_exceeded")
    assert told["failure"]["message"].startswith("Waits for the quota of tokens")
    assert 0 < told["progress"]["done"] < document.passages
    quota.amount = 10 * used
    quota.save()
    slice_done(manuals)
    assert shown(api)["second_index"]["state"] == "ready"
    assert sum(UsageRecord.objects.for_tenant(acme).values_list("prompt_tokens", flat=True)) == 2 * used


def test_cancelling_ends_the_work_of_its_worker(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    ingested(acme, added(acme, manuals, manual(30)))
    wide(embeddings, Reply(kind="embedding", model="wide", dimension=WIDER, held=True))
    second = changing.build(acme, manuals, "wide")
    before = len(embeddings.requests)
    with in_thread(lambda: tasks.build_index(str(acme.pk), str(second.pk), 0)):
        until(lambda: len(embeddings.requests) > before)
        changing.drop(acme, manuals)
        embeddings.release()
    assert slice_done(manuals) is None
    assert not Embedding.objects.for_tenant(acme).filter(index=second.index_id).exists()


def test_a_collection_is_deleted_while_its_second_index_is_built(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    for round_ in range(5):
        collection = create_collection(acme, name=f"Round {round_}")
        ingested(acme, added(acme, collection, manual(20)))
        embeddings.recover()
        wide(embeddings, Reply(kind="embedding", model="wide", dimension=WIDER, first_delay=0.05 * round_))
        second = changing.build(acme, collection, "wide")
        with in_thread(lambda pk=second.pk: tasks.build_index(str(acme.pk), str(pk), 0)):  # type: ignore[misc]
            delete_collection(acme, collection)
    assert not Embedding.objects.for_tenant(acme).exists()
    assert not SecondIndex.objects.for_tenant(acme).exists()


def test_a_document_that_was_read_before_its_index_was_dropped_leaves_nothing_there(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    wide(embeddings)
    document = ingested(acme, added(acme, manuals, manual(3)))
    second = changing.build(acme, manuals, "wide")
    changing.drop(acme, manuals)
    assert slice_done(manuals) is None
    with tenant_scope(acme):
        chunks = list(Chunk.objects.filter(document=document))
        vectors.store_live(second.index, chunks, [[0.5] * WIDER] * len(chunks))
    replace_document(acme, document, name="manual.md", content=manual(5))
    ingested(acme, document)
    assert whole(acme, manuals, manuals.index_id)
    assert not Embedding.objects.for_tenant(acme).filter(index=second.index_id).exists()


def test_no_vectors_are_made_for_an_index_that_is_dropped(
    acme: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    wide(embeddings)
    document = ingested(acme, added(acme, manuals, manual(3)))
    Chunk.objects.for_tenant(acme).filter(document=document).update(live=False)  # as before it goes live
    second = changing.build(acme, manuals, "wide")
    asked = len(embeddings.requests)
    changing.drop(acme, manuals)
    async_to_sync(embedding.embed)(document, second.index)
    assert slice_done(manuals) is None
    async_to_sync(embedding.embed)(document, second.index)
    assert len(embeddings.requests) == asked


# --- Others -----------------------------------------------------------------------------------------------------------


def test_collections_and_tenants_have_their_indexes_by_themselves(
    acme: Tenant, globex: Tenant, manuals: Collection, other: Endpoint, embeddings: FakeInference
) -> None:
    wide(embeddings)
    letters, theirs = create_collection(acme, name="Letters"), create_collection(globex, name="Manuals")
    for tenant, collection in ((acme, manuals), (acme, letters), (globex, theirs)):
        ingested(tenant, added(tenant, collection, manual(5)))
    changing.build(acme, letters, "wide")
    slice_done(letters)
    changing.switch(acme, letters)
    letters.refresh_from_db()
    assert (letters.index.model, manuals.index.model) == ("wide", theirs.index.model)
    # One question to both: each is searched by its own model.
    hits = async_to_sync(find)(acme, [manuals, letters], "valve one 2", limit=20).hits
    assert {hit.candidate.near is not None for hit in hits} == {True}
    assert whole(globex, theirs, theirs.index_id)
    assert not SecondIndex.objects.for_tenant(globex).exists()
    assert Embedding.objects.for_tenant(globex).exclude(index=theirs.index_id).count() == 0
    # Dropping the former one of a collection leaves those of the other, which has the same.
    changing.drop(acme, letters)
    assert slice_done(letters) is None
    assert whole(acme, manuals, manuals.index_id)
    assert whole(acme, letters, letters.index_id)
