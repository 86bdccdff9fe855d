"""A site becomes documents, page by page, as its host allows; and again, without a page made anew that did not change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from apps.knowledge.models import Collection, Document, SourceRun
from apps.tenants.models import Tenant
from tests.apps.knowledge.crawling import counts, page, refusals, run_once, run_whole, site_source, titles
from tests.apps.knowledge.ingesting import embedded, live_texts
from tests.fakes.inference import FakeInference
from tests.fakes.site import Site, running_site


@pytest.fixture
def site(settings: Any) -> Iterator[Site]:
    settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["localhost"]
    settings.PARLEY_CRAWL_DELAY_MS = 0
    with running_site() as site:
        yield site


@pytest.fixture
def small(site: Site) -> Site:
    """Three pages."""
    site.serves("/", page("Home", "/pumps#top", "seals/", "mailto:a@b.example", "https://example.org/"), ETag='"1"')
    site.serves("/pumps", page("Pumps", "/", "/pumps#end"), **{"Last-Modified": "Mon, 02 Mar 2026 08:00:00 GMT"})
    site.serves("/seals/", page("Seals", "../pumps"))
    return site


def asked(site: Site) -> list[str]:
    return [request.path for request in site.requests]


def test_a_site_becomes_documents(acme: Tenant, manuals: Collection, small: Site) -> None:
    source = site_source(acme, manuals, small)
    run = run_whole(source)
    assert (run.state, counts(run), run.refusals) == ("finished", {"found": 3, "new": 3}, [])
    assert titles(source) == ["Home", "Pumps", "Seals"]
    pumps = Document.objects.get(source_url=f"{small.url}/pumps")
    assert pumps.status == "ready"
    assert "All about Pumps stands here." in live_texts(pumps)[0]
    assert sorted(asked(small)) == ["/", "/pumps", "/robots.txt", "/seals/"]
    assert {request.headers["User-Agent"] for request in small.requests} == {"Parley"}


def test_what_did_not_change_is_not_embedded_again(
    acme: Tenant, manuals: Collection, small: Site, embeddings: FakeInference
) -> None:
    source = site_source(acme, manuals, small)
    run_whole(source)
    before = embedded(embeddings)
    small.requests.clear()
    small.serves("/seals/", page("Seals", "../pumps", "/new"))
    small.serves("/new", page("New"))
    run = run_whole(source)
    assert counts(run) == {"found": 4, "new": 1, "changed": 1, "unchanged": 2}
    conditions = {request.path: (request.headers.get("If-None-Match"), request.headers.get("If-Modified-Since"))
                  for request in small.requests}  # fmt: skip
    assert conditions["/"] == ('"1"', None)
    assert conditions["/pumps"] == (None, "Mon, 02 Mar 2026 08:00:00 GMT")
    anew = embedded(embeddings)[len(before) :]
    assert len(anew) == 2
    assert all("New" in text or "Seals" in text for text in anew)
    assert counts(run_whole(source)) == {"found": 4, "unchanged": 4}
    assert len(embedded(embeddings)) == len(before) + 2
