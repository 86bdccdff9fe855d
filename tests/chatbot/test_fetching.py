"""What is fetched from an address, what is refused, and in which words."""

from __future__ import annotations

import asyncio
import gzip
import io
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from chatbot import fetching
from chatbot.errors import ParleyError
from chatbot.fetching import FetchFailed, SourceTooLarge, SourceUnavailable, SourceUnsupported, fetch
from tests.fakes.site import Site

ALLOWED = frozenset({"localhost"})
LIMIT = 1_000_000


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.start()
    yield site
    await site.stop()


async def fetched(url: str, *, max_bytes: int = LIMIT, etag: str = "") -> tuple[str, bytes]:
    """(name, content) of what is there."""
    content = io.BytesIO()
    found = await fetch(url, content, max_bytes=max_bytes, allowed=ALLOWED, etag=etag)
    assert found is not None
    return found.name, content.getvalue()


async def refused(url: str, *, max_bytes: int = LIMIT) -> ParleyError:
    with pytest.raises(ParleyError) as raised:
        await fetched(url, max_bytes=max_bytes)
    assert raised.value.message.endswith(".")
    return raised.value


@pytest.mark.parametrize(
    ("path", "content_type", "body", "name"),
    [
        ("/manual/pump.html", "text/html", "<p>Hello", "pump.html"),
        ("/", "text/html; charset=utf-8", "<p>Hello", "localhost.html"),
        ("/a%20b.php", "text/html", "<p>Hello", "a b.html"),
        ("/data.csv", "application/octet-stream", "a,b", "data.csv"),
        ("/readme.md", "text/plain", "# Hello", "readme.md"),
        ("/download", "application/pdf", "%PDF-1.7", "download.pdf"),
        ("/download", "", "%PDF-1.7", "download.pdf"),
    ],
)
async def test_the_kind_is_told_by_type_name_and_content(
    site: Site, path: str, content_type: str, body: str, name: str
) -> None:
    site.serves(path.replace("%20", " "), body, content_type)
    assert await fetched(site.url + path) == (name, body.encode())


async def test_a_fetch_says_who_asks_and_carries_nothing_of_ours(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    site.pages["/a"] = lambda _: web.Response(status=302, headers={"Location": "/b", "Set-Cookie": "session=1"})
    site.serves("/b", "<p>Hello")
    await fetched(f"{site.url}/a")
    first, second = site.requests
    assert first.headers["User-Agent"] == "Parley"
    for request in (first, second):
        assert not {"Cookie", "Authorization", "Referer"} & request.headers.keys()


async def test_redirects_are_followed_five_times(site: Site) -> None:
    for number in range(6):
        site.redirects(f"/{number}", f"/{number + 1}", status=(301, 302, 303, 307, 308)[number % 5])
    site.serves("/6", "<p>Hello")
    assert (await fetched(f"{site.url}/1"))[1] == b"<p>Hello"
    assert "redirects" in (await refused(f"{site.url}/0")).message
    site.redirects("/loop", "/loop")
    assert "redirects" in (await refused(f"{site.url}/loop")).message


@pytest.mark.parametrize("location", ["http://[::1", "//a]b/", "http://\u2100/", "http://a:b/", "http://"])
async def test_a_redirect_to_what_is_no_address_fails(site: Site, location: str) -> None:
    site.redirects("/a", location)
    assert isinstance(await refused(f"{site.url}/a"), FetchFailed)


async def test_https_leads_to_https_only() -> None:
    with pytest.raises(FetchFailed, match="https"):
        fetching._next("https://example.org/a", "http://example.org/b")
    assert fetching._next("https://example.org/a/b", "../c#d") == "https://example.org/c"
    assert fetching._next("http://example.org/a", "https://example.org/b") == "https://example.org/b"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 418, 204, 206, 304])
async def test_no_means_no(site: Site, status: int) -> None:
    site.pages["/"] = lambda _: web.Response(status=status)
    assert isinstance(await refused(site.url), FetchFailed)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
async def test_not_now_means_later(site: Site, status: int) -> None:
    site.pages["/"] = lambda _: web.Response(status=status)
    assert isinstance(await refused(site.url), SourceUnavailable)


@pytest.mark.parametrize(
    ("said", "believed"),
    [
        ("30", 30),
        ("3600", 3600),
        ("99999999", 3600),
        ("9" * 400, 3600),
        ("-1", None),
        ("soon", None),
        ("Fri, 31 Dec 2100 23:59:59 GMT", None),
    ],
)
async def test_a_host_is_believed_how_long_it_wants_to_rest_up_to_an_hour(
    site: Site, said: str, believed: float | None
) -> None:
    site.pages["/"] = lambda _: web.Response(status=503, headers={"Retry-After": said})
    assert (await refused(site.url)).retry_after == believed


async def test_a_version_that_is_known_is_not_sent_again(site: Site) -> None:
    url = site.serves("/page", "<p>Hello", ETag='"v1"')
    found = await fetch(url, io.BytesIO(), max_bytes=LIMIT, allowed=ALLOWED)
    assert found is not None
    assert found.etag == '"v1"'
    content = io.BytesIO()
    assert await fetch(url, content, max_bytes=LIMIT, allowed=ALLOWED, etag='"v1"') is None
    assert not content.getvalue()
    assert await fetch(url, content, max_bytes=LIMIT, allowed=ALLOWED, etag='"v0"') is not None


@pytest.mark.parametrize("etag", ["x" * 300, '"\u00e9"'])
async def test_a_strange_etag_is_not_kept(site: Site, etag: str) -> None:
    site.pages["/"] = lambda _: web.Response(text="<p>", content_type="text/html", headers={"ETag": etag})
    found = await fetch(site.url, io.BytesIO(), max_bytes=LIMIT, allowed=ALLOWED)
    assert found is not None
    assert found.etag == ""


async def test_text_arrives_in_utf_8(site: Site) -> None:
    page = '<meta charset="koi8-r"><p>Größe “x”'
    site.serves("/page", page.encode("cp1252"), "text/html; charset=ISO-8859-1")
    assert (await fetched(f"{site.url}/page"))[1].decode("utf-8-sig") == page
    site.serves("/raw", page.encode("cp1252"), "text/html; charset=zip")
    assert (await fetched(f"{site.url}/raw"))[1] == page.encode("cp1252")


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1])
async def test_the_limit_is_exact(site: Site, size: int) -> None:
    url = site.serves("/page.txt", b"x" * size, "text/plain")
    if size > LIMIT:
        assert isinstance(await refused(url), SourceTooLarge)
    else:
        assert len((await fetched(url))[1]) == size


async def test_a_compressed_page_is_unpacked(site: Site) -> None:
    url = site.serves("/page", gzip.compress(b"<p>Hello"), "text/html", **{"Content-Encoding": "gzip"})
    assert (await fetched(url))[1] == b"<p>Hello"


async def test_a_lie_about_compression_is_told(site: Site) -> None:
    url = site.serves("/page", b"no gzip", "text/html", **{"Content-Encoding": "gzip"})
    assert isinstance(await refused(url), SourceUnavailable)


@pytest.mark.parametrize("content_type", ["video/mp4", "application/zip", "text", "application/x-shockwave-flash"])
async def test_what_cannot_be_read_is_named(site: Site, content_type: str) -> None:
    url = site.serves("/thing", b"\x89PNG", content_type)
    assert isinstance(await refused(url), SourceUnsupported)


async def test_nothing_is_no_document(site: Site) -> None:
    assert "empty" in (await refused(site.serves("/empty", b""))).message


async def test_who_does_not_answer_is_asked_again_later(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TOTAL_SECONDS", 0.3)

    async def never(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    site.pages["/"] = never
    assert "0.3 seconds" in (await refused(site.url)).message


async def test_a_closed_port_is_asked_again_later() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        failure = await refused(f"http://localhost:{taken.getsockname()[1]}/")
    assert isinstance(failure, SourceUnavailable)


async def test_an_answer_cut_short_is_asked_again_later(site: Site) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "text/html"})
        await response.prepare(request)
        await response.write(b"<p>")
        assert request.transport is not None
        request.transport.abort()
        return response

    site.pages["/"] = cut
    assert isinstance(await refused(site.url), SourceUnavailable)


@pytest.mark.parametrize("url", ["http://" + "a" * 70 + ".invalid/", "http://a..invalid/", "http://name.invalid/"])
async def test_a_name_that_no_host_has_says_so(url: str) -> None:
    assert isinstance(await refused(url), FetchFailed | SourceUnavailable)
