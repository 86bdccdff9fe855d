"""What /metrics tells of what all processes share, and of the process that tells it."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import suppress
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import Redis

from apps.edge.queues import DOCUMENTS
from apps.knowledge.backlog import backlog
from apps.knowledge.models import Document
from apps.ops import looking
from tests import factories
from tests.scraping import grown, sample, scraped


def documents(number: int) -> None:
    for _ in range(number):
        tenant = factories.make_tenant()
        collection = factories.make_collection(tenant=tenant)
        hour_ago = timezone.now() - dt.timedelta(hours=1)
        factories.make_document(tenant=tenant, collection=collection, status=Document.Status.QUEUED, created=hour_ago)
        factories.make_document(
            tenant=tenant, collection=collection, status=Document.Status.EMBEDDING, ready_at=hour_ago
        )
        factories.make_document(tenant=tenant, collection=collection, status=Document.Status.READY)


async def test_what_waits_of_all_tenants_is_told(database: None) -> None:
    await asyncio.to_thread(documents, 2)
    with Redis.from_url(django_settings.CELERY_BROKER_URL) as broker:
        broker.lpush(DOCUMENTS, "one", "two", "three")
    told = await scraped()
    assert told[sample("parley_documents_waiting", status="queued")] == 2
    assert told[sample("parley_documents_waiting", status="embedding")] == 2
    assert told[sample("parley_documents_waiting", status="retrying")] == 0
    assert 3600 <= told[sample("parley_documents_oldest_seconds", status="queued")] < 4000
    # A new version of a document that was ready has no age of its own.
    assert told[sample("parley_documents_oldest_seconds", status="embedding")] == 0
    assert told[sample("parley_queue_messages", queue=DOCUMENTS)] == 3
    assert {value for (name, _), value in told.items() if name == "parley_scrape_source_up"} == {1.0}


@pytest.mark.parametrize("tenants", [1, 100])
def test_however_many_tenants_there_are_one_statement_is_enough(database: None, tenants: int) -> None:
    documents(tenants)
    with CaptureQueriesContext(connections["operator"]) as asked:
        found = {one.status: one.documents for one in backlog()}
    assert found == {"queued": tenants, "embedding": tenants}
    assert len(asked) == 1


async def test_a_broker_that_is_away_spoils_no_scrape(database: None, settings: Any) -> None:
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:9/0"
    told = await scraped()
    assert told[sample("parley_scrape_source_up", source="broker")] == 0
    assert told[sample("parley_scrape_source_up", source="postgresql")] == 1
    assert not [name for name, _ in told if name == "parley_queue_messages"]


async def test_the_event_loop_is_looked_at(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "EVERY_SECONDS", 0.001)
    before = await scraped()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await looking.look()
    assert await grown(before, "parley_event_loop_lag_seconds_count") > 0
