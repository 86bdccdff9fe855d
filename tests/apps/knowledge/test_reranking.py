"""A model that reads question and passages puts them in order; whatever it does, the search goes on."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync

from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge.models import Collection
from apps.knowledge.search import Found, find
from apps.tenants.models import Tenant
from tests.apps.knowledge.asking import client_of, post
from tests.factories import make_document, make_endpoint, make_passage, make_tenant
from tests.fakes.inference import FakeInference, Reply

QUESTION = "replace the rubber seal"


@pytest.fixture
def reranker(embeddings: FakeInference, endpoint: Endpoint) -> Endpoint:
    return make_endpoint(embeddings.base_url, kind=Endpoint.Kind.RERANK, name="reranker", model="fake")


@pytest.fixture
def passages(acme: Tenant, manuals: Collection) -> None:
    document = make_document(tenant=acme, collection=manuals, title="Pump")
    # Full text takes the rarest words; the scripted model counts all that are shared.
    make_passage(tenant=acme, document=document, text="A seal, a seal, a seal.")
    make_passage(tenant=acme, document=document, text="How to replace the rubber seal.")
    make_passage(tenant=acme, document=document, text="Rubber, the rubber rubber rubber.")


def ask(acme: Tenant, manuals: Collection, **more: Any) -> Found:
    gateway.forget()
    return async_to_sync(find)(acme, [manuals], QUESTION, **more)


def test_it_decides_the_order(acme: Tenant, manuals: Collection, passages: None, reranker: Endpoint) -> None:
    found = ask(acme, manuals)
    given = [hit.rerank for hit in found.hits]
    assert given == sorted(given, key=lambda score: -(score or 0))
    assert found.hits[0].candidate.text == "How to replace the rubber seal."
    assert "reranking model" in found.hits[0].why
    assert found.timings["rerank_ms"] is not None
    assert found.degraded == []
    assert list(found.stages)[-1] == "reranked"


def test_without_one_nothing_is_said_of_it(acme: Tenant, manuals: Collection, passages: None) -> None:
    found = ask(acme, manuals)
    assert (found.timings["rerank_ms"], found.degraded, found.hits[0].rerank) == (None, [], None)


def test_it_serves_only_whom_it_may(
    acme: Tenant, manuals: Collection, passages: None, reranker: Endpoint, embeddings: FakeInference
) -> None:
    reranker.tenants.add(make_tenant("other"))
    assert ask(acme, manuals).timings["rerank_ms"] is None
    assert [request for request in embeddings.requests if "rerank" in request.path] == []


@pytest.mark.parametrize(
    ("reply", "says", "patience"),
    [
        (Reply(kind="rerank", status=500, always=True), "rerank: model_", 20_000),
        (Reply(kind="rerank", garbage="{}", always=True), "rerank: model_", 20_000),
        (Reply(kind="rerank", first_delay=30, always=True), "rerank: too_late", 300),
    ],
)
@pytest.mark.usefixtures("passages", "reranker")
def test_the_fused_order_stands_where_it_fails(  # noqa: PLR0917 - three of them are what it is about
    acme: Tenant,
    manuals: Collection,
    embeddings: FakeInference,
    settings: Any,
    reply: Reply,
    says: str,
    patience: int,
) -> None:
    settings.PARLEY_RERANK_MILLISECONDS = patience
    embeddings.script(reply)
    found = ask(acme, manuals)
    assert [said.startswith(says) for said in found.degraded] == [True], found.degraded
    assert [hit.candidate for hit in found.hits] == found.stages["fused"]
    answer = post(client_of(acme), "search", {"collection": "manuals", "query": QUESTION}).json()
    assert len(answer["timings"]["degraded"]) == 1
    assert answer["timings"]["rerank_ms"] is None
