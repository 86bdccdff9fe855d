"""How slices of runs reach the workers: in line with documents, each once, and none of a tenant that is suspended."""

from __future__ import annotations

import base64
import datetime
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
import redis as redis_client
from django.conf import settings as django_settings
from django.db import connections
from django.utils import timezone

from apps.edge.queues import DOCUMENTS
from apps.knowledge.crawl import running, schedule, tasks
from apps.knowledge.ingest import add_document
from apps.knowledge.models import Collection, SourceRun
from apps.knowledge.slices import claim
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from tests.apps.knowledge.crawling import page, site_source
from tests.fakes.site import Site, running_site


@pytest.fixture
def broker(redis: None) -> Iterator[redis_client.Redis]:
    with redis_client.Redis.from_url(django_settings.CELERY_BROKER_URL) as client:
        yield client


@pytest.fixture
def site(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Pages without an end, of which a slice looks at two."""
    settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["localhost"]
    settings.PARLEY_CRAWL_DELAY_MS = 0
    monkeypatch.setattr(running, "SLICE_PAGES", 2)
    with running_site() as site:
        for number in range(20):
            site.serves(f"/{number}", page(f"Page {number}", f"/{number + 1}"))
        yield site


def messages(broker: redis_client.Redis, task: str) -> list[dict[str, Any]]:
    """Of this task, oldest first."""
    sent = [orjson.loads(raw) for raw in reversed(broker.lrange(DOCUMENTS, 0, -1))]
    return [message for message in sent if message["headers"]["task"] == task]


def slices(broker: redis_client.Redis) -> list[list[Any]]:
    """What the workers are sent of runs: the arguments of each message."""
    sent = messages(broker, schedule.SLICE_TASK)
    return [orjson.loads(base64.b64decode(message["body"]))[0] for message in sent]


def time_passes() -> None:
    """So that what was sent is taken for lost."""
    SourceRun.objects.update(next_slice_at=timezone.now() - datetime.timedelta(seconds=1))


def test_a_slice_keeps_its_place_in_line_as_long_as_a_document(
    acme: Tenant, manuals: Collection, site: Site, broker: redis_client.Redis
) -> None:
    add_document(acme, manuals, name="a.md", content=b"Before it in the same queue.")
    schedule.run_now(acme, site_source(acme, manuals, site, "/0"))
    (document,), (a_slice,) = messages(broker, "knowledge.ingest"), messages(broker, schedule.SLICE_TASK)
    expire = [datetime.datetime.fromisoformat(message["headers"]["expires"]) for message in (document, a_slice)]
    assert expire[1] >= expire[0]


def test_a_slice_that_was_sent_again_is_done_once(
    acme: Tenant, manuals: Collection, site: Site, broker: redis_client.Redis
) -> None:
    run, _ = schedule.run_now(acme, site_source(acme, manuals, site, "/0", depth=10))
    for _ in range(3):
        time_passes()
        schedule.send_due(acme.pk)
    copies = slices(broker)
    assert len(copies) == 4
    for arguments in copies:
        tasks.run_source(*arguments)
    run.refresh_from_db()
    assert run.done == 2
    # The next slice has one message of its own, which is good for it.
    (following,) = slices(broker)[len(copies) :]
    tasks.run_source(*following)
    run.refresh_from_db()
    assert run.done == 4


def test_a_copy_does_not_ask_a_host_that_is_waited_for(
    acme: Tenant, manuals: Collection, site: Site, broker: redis_client.Redis
) -> None:
    site.serves("/robots.txt", "User-agent: *\nCrawl-delay: 20", "text/plain")
    run, _ = schedule.run_now(acme, site_source(acme, manuals, site, "/0"))
    (arguments,) = slices(broker)
    tasks.run_source(*arguments)
    run.refresh_from_db()
    waits_until, asked = run.next_slice_at, len(site.requests)
    assert waits_until > timezone.now()
    tasks.run_source(*arguments)
    run.refresh_from_db()
    assert (run.next_slice_at, len(site.requests)) == (waits_until, asked)


def test_one_slice_of_a_tenant_is_in_line(
    acme: Tenant, manuals: Collection, site: Site, broker: redis_client.Redis
) -> None:
    runs = [schedule.run_now(acme, site_source(acme, manuals, site, path, depth=10))[0] for path in ("/0", "/10")]
    schedule.send_due(acme.pk)
    time_passes()
    schedule.send_due(acme.pk)  # the first again, since its message may be lost
    sent = slices(broker)
    assert [run_id for _, run_id, _ in sent] == [str(runs[0].pk)] * 2
    for _ in range(4):
        tasks.run_source(*slices(broker)[-1])
    assert [run_id for _, run_id, _ in slices(broker)[2:]] == [str(runs[turn].pk) for turn in (1, 0, 1, 0)]


def test_so_it_is_when_several_send_at_once(
    acme: Tenant, manuals: Collection, site: Site, broker: redis_client.Redis
) -> None:
    for start in range(4):
        schedule.run_now(acme, site_source(acme, manuals, site, f"/{start}"))
    for round_ in range(5):
        SourceRun.objects.update(is_sent=False)
        time_passes()
        broker.delete(DOCUMENTS)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(send_and_close, [acme.pk] * 4))
        assert len(slices(broker)) == 1, round_


def send_and_close(tenant_id: uuid.UUID) -> None:
    try:
        schedule.send_due(tenant_id)
    finally:
        connections.close_all()


def test_no_slice_is_sent_while_a_worker_is_at_one_whatever_our_clock_says(
    acme: Tenant, manuals: Collection, site: Site, broker: redis_client.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = schedule.run_now(acme, site_source(acme, manuals, site, "/0"))
    with tenant_scope(acme):
        assert claim(SourceRun, acme.pk, run.pk, 0)
    time_passes()
    broker.delete(DOCUMENTS)
    now = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() + datetime.timedelta(minutes=10))
    assert (schedule.send_due(acme.pk), slices(broker)) == (False, [])


def test_no_slice_of_a_suspended_tenant_is_done(
    acme: Tenant, manuals: Collection, site: Site, broker: redis_client.Redis
) -> None:
    run, _ = schedule.run_now(acme, site_source(acme, manuals, site, "/0"))
    acme.is_active = False
    acme.save()
    for arguments in slices(broker):
        tasks.run_source(*arguments)
    time_passes()
    tasks.resume_sources()
    run.refresh_from_db()
    assert (run.state, site.requests, len(slices(broker))) == ("queued", [], 1)
    acme.is_active = True
    acme.save()
    tasks.resume_sources()
    tasks.run_source(*slices(broker)[-1])
    run.refresh_from_db()
    assert (run.state, run.done) == ("running", 2)
