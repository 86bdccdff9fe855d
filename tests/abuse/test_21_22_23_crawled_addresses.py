"""A source reaches public hosts only: where it begins, what it is led to, and whatever a name stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from apps.knowledge.crawl import registering
from apps.knowledge.models import Collection, Document, Source
from apps.tenants.models import Tenant
from chatbot.addresses import REFUSED
from chatbot.errors import InvalidRequest
from tests.abuse.test_21_22_23_source_addresses import RESOLVED, WRITTEN
from tests.apps.knowledge.conftest import acme, embeddings, endpoint, manuals
from tests.apps.knowledge.crawling import page, refusals, run_whole, site_source, titles
from tests.fakes.site import Site, running_site

__all__ = ["acme", "embeddings", "endpoint", "manuals"]
# What the crawler may think of as hosts of its own, and is led to all the same.
INNER = "127.0.0.1"


@pytest.fixture
def site(settings: Any) -> Iterator[Site]:
    settings.PARLEY_CRAWL_DELAY_MS = 0
    with running_site() as site:
        yield site


@pytest.fixture
def outer(site: Site, settings: Any) -> Site:
    """A site that may be asked, under its name alone."""
    settings.PARLEY_PRIVATE_SOURCE_HOSTS = ["localhost"]
    return site


@pytest.mark.parametrize("kind", ["site", "sitemap"])
@pytest.mark.parametrize("url", WRITTEN)
def test_an_inner_address_is_refused_where_it_is_given(acme: Tenant, manuals: Collection, url: str, kind: str) -> None:
    with pytest.raises(InvalidRequest):
        registering.add_source(acme, manuals, kind=kind, location=url.format(port=80))
    assert not Source.objects.exists()


@pytest.mark.parametrize("url", RESOLVED)
def test_an_inner_host_is_asked_nothing(acme: Tenant, manuals: Collection, site: Site, url: str) -> None:
    """Not even for its robots.txt."""
    site.serves("/", page("Secret"))
    try:
        source = registering.add_source(acme, manuals, kind="site", location=url.format(port=site.port))
    except InvalidRequest:
        return  # as good
    run = run_whole(source)
    assert (run.state, Document.objects.count(), site.requests) == ("failed", 0, [])


def test_a_link_within_its_hosts_is_checked_as_well(acme: Tenant, manuals: Collection, outer: Site) -> None:
    inner = f"{INNER}:{outer.port}"
    outer.serves("/", page("Home", f"http://{inner}/secret"))
    outer.serves("/secret", page("Secret"))
    source = site_source(acme, manuals, outer)
    Source.objects.update(hosts=[inner])  # as if it had been public when it was named
    source.refresh_from_db()
    run = run_whole(source)
    assert titles(source) == ["Home"]
    assert refusals(run) == {"secret": "fetch_failed"}
    assert "/secret" not in [request.path for request in outer.requests]


@pytest.mark.parametrize("path", ["/", "/robots.txt", "/sitemap.xml", "/page"])
@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/secret", "http://[::ffff:7f00:1]:{port}/secret"])
def test_each_redirect_is_checked(acme: Tenant, manuals: Collection, outer: Site, path: str, target: str) -> None:
    outer.serves("/", page("Home", "/page"))
    outer.serves("/secret", page("Secret"))
    kind = "sitemap" if path == "/sitemap.xml" else "site"
    start = path if kind == "sitemap" else "/"
    outer.redirects(path, target.format(port=outer.port))
    run_whole(site_source(acme, manuals, outer, start, kind=kind))
    assert "/secret" not in [request.path for request in outer.requests]
    assert "Secret" not in Document.objects.values_list("title", flat=True)


def test_a_sitemap_leads_to_no_inner_host(acme: Tenant, manuals: Collection, outer: Site) -> None:
    urls = [f"http://{INNER}:{outer.port}/secret", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd"]
    entries = "".join(f"<url><loc>{url}</loc></url>" for url in urls)
    outer.serves("/sitemap.xml", f"<urlset>{entries}</urlset>", "text/xml")
    outer.serves("/secret", page("Secret"))
    run = run_whole(site_source(acme, manuals, outer, "/sitemap.xml", kind="sitemap"))
    assert set(refusals(run).values()) == {"elsewhere"}
    assert [request.path for request in outer.requests] == ["/sitemap.xml"]
    assert not Document.objects.exists()


@pytest.mark.parametrize("server", ["http://localhost:{port}", "http://0x7f.1:{port}"])
def test_a_bucket_is_no_way_around(acme: Tenant, manuals: Collection, site: Site, server: str) -> None:
    keys = {"access_key": "x", "secret_key": "x", "endpoint": server.format(port=site.port)}
    run = run_whole(registering.add_source(acme, manuals, kind="bucket", location="manuals", **keys))
    assert (run.state, run.failure_message, site.requests) == ("failed", REFUSED, [])
