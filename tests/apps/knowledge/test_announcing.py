"""What becomes of a document is told to the tenant's webhooks, once, and nothing of what it holds."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from django.db import OperationalError

from apps.knowledge import announcing
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from apps.webhooks.models import Delivery, Event
from apps.webhooks.registration import register
from tests.apps.knowledge.ingesting import added, ingested, manual
from tests.fakes.inference import FakeInference, Reply


@pytest.fixture(autouse=True)
def listening(acme: Tenant, globex: Tenant) -> None:
    for tenant in (acme, globex):
        events = [Event.DOCUMENT_READY, Event.DOCUMENT_FAILED]
        register(tenant, name="x", url="https://r.example/", events=events)


def announced() -> list[tuple[str, dict[str, Any]]]:
    return list(Delivery.objects.order_by("created").values_list("event", "data"))


def test_a_document_that_is_ready(acme: Tenant, manuals: Collection) -> None:
    document = ingested(acme, added(acme, manuals, manual(3), "canaryname.md"))
    data = {
        "document": str(document.pk),
        "collection": "manuals",
        "status": "ready",
        "error": None,
        "pages": document.pages,
        "passages": document.passages,
    }
    assert announced() == [("document.ready", data)]
    told = orjson.dumps(data).decode()
    assert not any(word in told for word in ("canaryname", "valve", document.title))
    ingested(acme, document)
    assert len(announced()) == 1


def test_a_document_that_failed(acme: Tenant, manuals: Collection) -> None:
    document = ingested(acme, added(acme, manuals, b" \n \n", "blank.md"))
    ((event, data),) = announced()
    assert event == "document.failed"
    assert (data["document"], data["status"], data["error"]) == (str(document.pk), "failed", document.failure_code)


def test_one_that_is_tried_again_is_not_told_of(acme: Tenant, manuals: Collection, embeddings: FakeInference) -> None:
    embeddings.script(Reply(kind="embedding", status=500, always=True))
    document = ingested(acme, added(acme, manuals, manual(1)))
    assert (document.status, announced()) == ("retrying", [])


def test_a_swap_that_is_rolled_back_is_not_told(
    acme: Tenant, manuals: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = announcing.document_ready

    def tell_and_fail(document: Document) -> None:
        tell(document)
        raise OperationalError

    monkeypatch.setattr(announcing, "document_ready", tell_and_fail)
    document = ingested(acme, added(acme, manuals, manual(1)))
    assert (document.status, announced()) == ("retrying", [])


def test_only_of_the_collection_that_was_chosen(acme: Tenant, manuals: Collection) -> None:
    register(acme, name="y", url="https://r.example/", events=[Event.DOCUMENT_READY], collections=[manuals.pk])
    ingested(acme, added(acme, manuals, manual(1)))
    assert len(announced()) == 2
