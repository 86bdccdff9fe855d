"""Lists in XML that somebody else wrote: what is read of them, and what is refused before it costs anything."""

from __future__ import annotations

import gzip
import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot import sitemaps
from chatbot.errors import ExtractionFailed
from chatbot.sitemaps import Sitemap, SitemapInvalid, SitemapTooLarge, listing_of, sitemap_of

PLAIN = b"""<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
  <url><loc> https://Example.org/a#top </loc><lastmod>2026-03-01</lastmod>
    <image:image><image:loc>https://example.org/picture.png</image:loc></image:image></url>
  <url><loc>https://example.org/a</loc></url><url><loc>javascript:x</loc></url><url><loc/></url>
</urlset>"""


@pytest.mark.parametrize("content", [PLAIN, gzip.compress(PLAIN, mtime=0)])
def test_pages_are_those_it_names_each_once(content: bytes) -> None:
    assert sitemap_of(io.BytesIO(content)) == Sitemap(("https://example.org/a",), is_index=False)


def test_an_index_names_further_ones() -> None:
    content = b"<sitemapindex><sitemap><loc>https://example.org/1.xml</loc></sitemap></sitemapindex>"
    assert sitemap_of(io.BytesIO(content)) == Sitemap(("https://example.org/1.xml",), is_index=True)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"<urlset>", b"<urlset/><urlset/>", b"<rss/>", b'<!DOCTYPE x [<!ENTITY a "b">]><urlset>&a;</urlset>',
     b'<!DOCTYPE x SYSTEM "http://example.org/"><urlset/>', b'<?xml version="1.0" encoding="nope"?><urlset/>',
     b"\x1f\x8b", gzip.compress(PLAIN, mtime=0)[:40]],
)  # fmt: skip
def test_what_is_no_sitemap_is_refused(content: bytes) -> None:
    with pytest.raises(SitemapInvalid):
        sitemap_of(io.BytesIO(content))


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"<urlset>" + b" " * sitemaps.MAX_BYTES, mtime=0), b"<urlset>" + b"<url/>" * 2000, b"<a>" * 100],
)
def test_a_bomb_is_refused(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sitemaps, "MOST_ELEMENTS", 1000)
    with pytest.raises(SitemapTooLarge):
        sitemap_of(io.BytesIO(content))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for prefix in (b"", b"<urlset>", b"\x1f\x8b"):
        with suppress(ExtractionFailed):
            sitemap_of(io.BytesIO(prefix + content))


def test_a_buckets_list_is_read_as_its_server_encodes_it() -> None:
    plain = b"""<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Contents><Key>a+b %41.md</Key>
        <ETag>"1"</ETag><Owner><ID>x</ID></Owner></Contents><NextContinuationToken>n</NextContinuationToken>"""
    found = listing_of(io.BytesIO(plain + b"</ListBucketResult>"))
    assert (found.objects, found.following) == ((("a+b %41.md", '"1"'),), "n")
    encoded = listing_of(io.BytesIO(plain + b"<EncodingType>url</EncodingType></ListBucketResult>"))
    assert encoded.objects == (("a b A.md", '"1"'),)
    with pytest.raises(SitemapInvalid):
        listing_of(io.BytesIO(b"<Error><Code>AccessDenied</Code></Error>"))
