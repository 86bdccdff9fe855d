"""Vectors of questions are asked for once, known to their tenant alone, and Redis is never waited for."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from redis import Redis

from apps.knowledge import remembered
from apps.knowledge.collections import create_collection
from apps.knowledge.models import Collection
from apps.knowledge.search import Found, find
from apps.tenants.models import Tenant
from tests.factories import make_document, make_passage
from tests.fakes.inference import FakeInference, embedding

SECRET = "where is the secret canary"


def ask(tenant: Tenant, collection: Collection, text: str = SECRET) -> Found:
    return async_to_sync(find)(tenant, [collection], text)


def test_a_question_that_comes_again_is_not_embedded_again(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    document = make_document(tenant=acme, collection=manuals)
    make_passage(tenant=acme, document=document, text="Here.", vector=embedding(SECRET))
    first, again = ask(acme, manuals), ask(acme, manuals)
    assert len(embeddings.requests) == 1
    assert [hit.similarity for hit in again.hits] == pytest.approx([hit.similarity for hit in first.hits], abs=1e-3)
    ask(acme, manuals, "another question")
    assert len(embeddings.requests) == 2


def test_another_tenant_and_another_index_ask_for_themselves(
    acme: Tenant, globex: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    ask(acme, manuals)
    ask(globex, create_collection(globex, name="Manuals"))
    assert len(embeddings.requests) == 2
    manuals.index.model = "another"
    assert async_to_sync(remembered.vector_of)(manuals.index, SECRET) is None


def test_redis_learns_nothing_of_the_question_and_forgets_it(acme: Tenant, manuals: Collection) -> None:
    ask(acme, manuals)
    with Redis.from_url(os.environ["CACHE_URL"]) as client:
        keys = [key for key in client.keys("*") if b"question" in key]
        assert len(keys) == 1
        assert str(acme.pk).encode() in keys[0]
        assert b"canary" not in keys[0]
        assert 0 < client.ttl(keys[0]) <= remembered.KEPT_SECONDS


def test_searches_go_on_while_redis_hangs_and_ask_it_no_more_for_a_while(
    acme: Tenant, manuals: Collection, embeddings: FakeInference, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(remembered, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(remembered, "REST_SECONDS", 600.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        location = f"redis://127.0.0.1:{silent.getsockname()[1]}/1"
        settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": location}}
        assert ask(acme, manuals).degraded == ["cache: not_answering"]
        assert remembered._resting_until > time.monotonic()
        ask(acme, manuals)
    assert len(embeddings.requests) == 2
