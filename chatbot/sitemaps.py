"""Reads lists in XML that somebody else wrote: sitemaps, plain or gzipped, and listings of a bucket.

Entities and document types are refused, and only so much is unpacked. https://www.sitemaps.org/protocol.html
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from chatbot.errors import ExtractionFailed
from chatbot.links import normalised

MAX_BYTES = 50 * 1024 * 1024  # of one sitemap, unpacked: the protocol's own limit
MOST_ENTRIES = 50_000
MOST_ELEMENTS, DEEPEST = 500_000, 20
_GZIP = b"\x1f\x8b"


class SitemapInvalid(ExtractionFailed):
    code = "sitemap_invalid"
    default_message = "This is no sitemap: it is not XML of the kind that sitemaps.org describes."


class SitemapTooLarge(ExtractionFailed):
    code = "too_large"
    default_message = (
        f"The sitemap holds more than a sitemap may: {MAX_BYTES // 2**20} MiB, {MOST_ENTRIES:,} addresses."
    )


@dataclass(frozen=True, slots=True)
class Sitemap:
    """Addresses of pages, or in an index those of further sitemaps, each once."""

    addresses: tuple[str, ...]
    is_index: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a bucket's list: (key, version) of its objects, and by what to ask for the next one."""

    objects: tuple[tuple[str, str], ...]
    following: str


def sitemap_of(content: IO[bytes]) -> Sitemap:
    """Raises SitemapInvalid, SitemapTooLarge."""
    found: dict[str, None] = {}
    root = ""
    for depth, element in _elements(_unpacked(content)):
        name = _name(element)
        if depth == 0:
            root = name
        # <loc> of images and videos stands one level deeper.
        elif name == "loc" and depth == 2 and len(found) < MOST_ENTRIES and (url := normalised(element.text or "")):
            found[url] = None
    if root not in {"urlset", "sitemapindex"}:
        raise SitemapInvalid
    return Sitemap(tuple(found), root == "sitemapindex")


def listing_of(content: IO[bytes]) -> Listing:
    """An answer of S3's ListObjectsV2. Raises SitemapInvalid."""
    objects: list[tuple[str, str]] = []
    entry: dict[str, str] = {}
    said: dict[str, str] = {}
    root = ""
    for depth, element in _elements(content):
        name, text = _name(element), element.text or ""
        if depth == 0:
            root = name
        elif depth == 2:
            entry[name] = text
        elif name == "Contents":
            objects.append((entry.get("Key", ""), entry.get("ETag", "")))
            entry = {}
        else:
            said[name] = text
    if root != "ListBucketResult":
        raise SitemapInvalid("The bucket's server does not answer as S3 does.")
    if said.get("EncodingType") == "url":
        objects = [(unquote_plus(key), version) for key, version in objects]
    return Listing(tuple(objects), said.get("NextContinuationToken", ""))


def _elements(content: IO[bytes]) -> Iterator[tuple[int, Element]]:
    """Each element at its end, with how deep it stands. Nothing of it is kept afterwards."""
    above: list[Element] = []
    read = 0
    try:
        for event, element in iterparse(content, events=("start", "end"), forbid_dtd=True):
            if event == "start":
                above.append(element)
                read += 1
                if read > MOST_ELEMENTS or len(above) > DEEPEST:
                    raise SitemapTooLarge
                continue
            above.pop()
            yield len(above), element
            if above:
                del above[-1][-1]
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise SitemapInvalid from error


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _unpacked(content: IO[bytes]) -> IO[bytes]:
    content.seek(0)
    zipped = content.read(2) == _GZIP
    content.seek(0)
    try:
        data = (gzip.GzipFile(fileobj=content) if zipped else content).read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise SitemapInvalid("The sitemap is damaged: it cannot be unpacked.") from error
    if len(data) > MAX_BYTES:
        raise SitemapTooLarge
    return io.BytesIO(data)
