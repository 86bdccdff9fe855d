"""A document's address leads to public hosts only: as it is written, at every hop, and whatever its name stands for."""

from __future__ import annotations

import asyncio
import gzip
import io
import resource
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult
from django.test import Client

from apps.knowledge.models import Collection, Document
from apps.knowledge.sources import add_source
from apps.tenants.models import Tenant
from chatbot import addresses, fetching
from chatbot.addresses import REFUSED
from chatbot.errors import ParleyError
from chatbot.fetching import FetchFailed, SourceTooLarge, SourceUnavailable, fetch
from tests.apps.knowledge.asking import client_of, post, refused
from tests.apps.knowledge.conftest import acme, embeddings, endpoint, manuals
from tests.apps.knowledge.ingesting import ingested, stored_files
from tests.fakes.site import Site, running_site

__all__ = ["acme", "embeddings", "endpoint", "manuals"]
LIMIT = 1_000_000
SECRET = "instance credentials"

WRITTEN = [
    "http://127.0.0.1:{port}/", "http://[::1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:a9fe:a9fe]/latest/meta-data/", "http://[64:ff9b::a9fe:a9fe]/", "http://[2002:7f00:1::]/",
    "http://169.254.169.254/latest/meta-data/", "http://100.64.0.1/", "http://224.0.0.1/", "http://10.0.0.1/",
    "http://0.0.0.0:{port}/", "http://[::]:{port}/", "http://user@127.0.0.1:{port}/",
    "http://example.org\\@127.0.0.1:{port}/", "http://[fe80::1%25eth0]/", "http://\uff11\uff12\uff17.0.0.1:{port}/",
]  # fmt: skip
RESOLVED = [
    "http://localhost:{port}/", "http://localhost.:{port}/", "http://LOCALHOST:{port}/", "http://2130706433:{port}/",
    "http://0x7f.1:{port}/", "http://0177.0.0.1:{port}/", "http://127.1:{port}/", "http://127.0.0.1.:{port}/",
    "http://%31%32%37.0.0.1:{port}/", "http://0:{port}/",
]  # fmt: skip


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.start()
    site.serves("/", SECRET, "text/plain")
    yield site
    await site.stop()


async def failure(url: str, **allowed: object) -> ParleyError:
    """How the fetch ends, with nothing read."""
    content = io.BytesIO()
    with pytest.raises(ParleyError) as raised:
        await fetch(url, content, max_bytes=LIMIT, **allowed)  # type: ignore[arg-type]
    assert not content.getvalue()
    return raised.value


@pytest.mark.parametrize("url", WRITTEN)
def test_an_inner_address_is_refused_where_it_is_given(manuals: Collection, acme: Tenant, url: str) -> None:
    body = {"collection": "manuals", "url": url.format(port=80)}
    refused(post(client_of(acme), "documents", body), 400, "url")
    assert not Document.objects.exists()


@pytest.mark.parametrize("url", [*WRITTEN, *RESOLVED])
async def test_an_inner_host_is_asked_nothing(site: Site, url: str) -> None:
    assert isinstance(await failure(url.format(port=site.port)), FetchFailed)
    assert not site.requests


@pytest.mark.parametrize("hop", range(5))
@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/", "http://[::ffff:7f00:1]:{port}/", "//[::1]:{port}/"])
async def test_each_hop_is_checked(site: Site, hop: int, target: str) -> None:
    for number in range(hop):
        site.redirects(f"/{number}", f"/{number + 1}")
    site.redirects(f"/{hop}", target.format(port=site.port))
    told = await failure(f"{site.url}/0", allowed={"localhost"})
    assert (type(told), told.message) == (FetchFailed, REFUSED)
    assert [request.path for request in site.requests] == [f"/{number}" for number in range(hop + 1)]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://localhost/", "http://user@localhost/"])
async def test_a_hop_leads_to_web_addresses_only(site: Site, target: str) -> None:
    site.redirects("/0", target)
    assert isinstance(await failure(f"{site.url}/0", allowed={"localhost"}), FetchFailed)
    assert len(site.requests) == 1


class _Names(addresses.ThreadedResolver):
    """Names of the test's own; `rebinds.example` is public when it is asked for first, and inner from then on."""

    asked: list[str]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        inner = (await super().resolve("127.0.0.1", port, family))[0]
        outer = ResolveResult({**inner, "host": "192.88.98.1"})
        found = {
            "inner.example": [inner],
            "both.example": [outer, inner],
            "six.example": [ResolveResult({**inner, "host": "::ffff:127.0.0.1"})],
            "rebinds.example": [inner if self.asked.count(host) > 1 else outer],
        }
        return found[host]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    _Names.asked = []
    monkeypatch.setattr(addresses, "ThreadedResolver", _Names)
    return _Names.asked


@pytest.mark.parametrize("host", ["inner.example", "both.example", "six.example"])
async def test_a_name_is_as_inner_as_its_addresses(site: Site, names: list[str], host: str) -> None:
    told = await failure(f"http://{host}:{site.port}/")
    assert (type(told), told.message) == (FetchFailed, REFUSED)
    assert not site.requests


async def test_a_name_that_rebinds_leads_to_the_address_that_was_checked(
    site: Site, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[str] = []

    async def connect(*_args: object, addr_infos: list[tuple[object, ...]], **_options: object) -> socket.socket:
        went.extend(str(info[4][0]) for info in addr_infos)  # type: ignore[index]
        raise OSError("Nobody is there.")

    monkeypatch.setattr("aiohappyeyeballs.start_connection", connect)
    assert isinstance(await failure(f"http://rebinds.example:{site.port}/"), SourceUnavailable)
    assert (names, went) == (["rebinds.example"], ["192.88.98.1"])
    told = await failure(f"http://rebinds.example:{site.port}/")
    assert told.message == REFUSED
    assert (went, site.requests) == (["192.88.98.1"], [])


async def test_an_endless_body_ends_at_the_limit(site: Site) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
            sent += 65536

    site.pages["/"] = endless
    with pytest.raises(SourceTooLarge, match=r"more than 0\.9537 MiB"):
        await fetch(site.url, io.BytesIO(), max_bytes=LIMIT, allowed={"localhost"})
    assert sent < 20 * LIMIT


async def test_a_declared_size_is_believed_when_it_is_too_large(site: Site) -> None:
    site.serves("/", b"x" * (LIMIT + 1), "text/plain")
    assert isinstance(await failure(site.url, allowed={"localhost"}), SourceTooLarge)


async def test_a_slow_body_ends_with_the_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TOTAL_SECONDS", 0.5)

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)

    site.pages["/"] = slow
    with pytest.raises(SourceUnavailable, match=r"within 0\.5 seconds"):  # of a body that has no end
        await fetch(site.url, io.BytesIO(), max_bytes=LIMIT, allowed={"localhost"})


async def test_hops_share_the_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TOTAL_SECONDS", 3)

    async def late(_: web.Request) -> web.Response:
        await asyncio.sleep(1.8)
        return web.Response(status=302, headers={"Location": "/"})

    site.pages["/"] = late
    with pytest.raises(SourceUnavailable, match=r"within 3 seconds"):
        await fetch(site.url, io.BytesIO(), max_bytes=LIMIT, allowed={"localhost"})
    assert len(site.requests) <= 2


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_bomb_ends_at_the_limit(site: Site, encoding: str) -> None:
    bomb = gzip.compress(b"\0" * 400_000_000, 1)
    assert len(bomb) < 3_000_000
    site.serves("/", bomb, "text/plain", **{"Content-Encoding": encoding})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ParleyError) as raised:
        await fetch(site.url, io.BytesIO(), max_bytes=10 * LIMIT, allowed={"localhost"})
    assert isinstance(raised.value, SourceTooLarge if encoding == "gzip" else SourceUnavailable)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100


def test_the_worker_fetches_nothing_inner(acme: Tenant, manuals: Collection) -> None:
    with running_site() as site:
        site.serves("/", SECRET, "text/plain")
        document, _ = add_source(acme, manuals, url=f"{site.url}/")
        ingested(acme, document)
        assert (document.status, document.failure_code) == ("failed", "fetch_failed")
        assert document.failure_message == REFUSED
        assert not site.requests
    assert not stored_files()


def test_the_outsider_learns_nothing_of_an_address(acme: Tenant, manuals: Collection, client: Client) -> None:
    document, _ = add_source(acme, manuals, url="https://example.org/private?key=canary")
    response = client.get(f"/api/v1/documents/{document.pk}")
    assert response.status_code == 401
    assert b"canary" not in response.content
