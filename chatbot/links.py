"""Where a web page leads, and what it says about being indexed.

An address is written in one way only, so that a page is not taken for two. The HTML is read by Python's own parser,
its beginning alone: what lies further down than two million characters is no navigation.
"""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from mimetypes import MimeTypes
from pathlib import PurePosixPath
from urllib.parse import urljoin, urlsplit

from yarl import URL

from chatbot.formats import SUFFIXES

PAGE_CHARS = 2_000_000
ADDRESS_CHARS = 2_000  # a longer one is nobody's; and libraries remember addresses that they have read
MOST_LINKS = 2_000
MOST_ANCHORS = 20_000  # the same one many times over is another link each time to whoever reads it
_UNCLOSED = 100  # comments without an end: HTMLParser looks for each one's through the rest of the page
_AGENTS = {"robots", "parley"}  # to whom a page's words on indexing are said
_KINDS = MimeTypes()


@dataclass(frozen=True, slots=True)
class Page:
    """links: absolute, in one way of writing, each once. canonical: the address that the page calls its own, or
    empty. noindex, nofollow: it asks not to be kept, or not to be followed."""

    links: tuple[str, ...] = ()
    canonical: str = ""
    noindex: bool = False
    nofollow: bool = False


def normalised(url: str) -> str:
    """The address without fragment, its host in lower case and as ASCII (IDNA), unsafe characters quoted; empty for
    what is no http(s) address, or longer than ADDRESS_CHARS."""
    if len(url) > ADDRESS_CHARS:
        return ""
    try:
        found = URL(url.strip()).with_fragment(None)
    except (ValueError, UnicodeError):
        return ""
    if found.scheme not in {"http", "https"} or not found.host:
        return ""
    address = str(found)
    return f"{address}/" if found == found.origin() and not address.endswith("/") else address


def authority(url: str) -> str:
    """Of an address that is normalised(): its host, with the port where that is not the scheme's own."""
    return urlsplit(url).netloc


def is_readable(url: str) -> bool:
    """Whether what is there may be of a kind that we read, as far as its address says."""
    path = urlsplit(url).path
    suffix = PurePosixPath(path).suffix.lower()
    return suffix in SUFFIXES or _KINDS.guess_type(f"page{suffix}")[0] is None


def page_of(text: str, url: str, robots: str = "") -> Page:
    """robots: of the response's header, which says the same as the page may say of itself."""
    text = text[:PAGE_CHARS]
    if text.count("<!--") > text.count("-->") + _UNCLOSED:
        return Page()
    reader = _Reader(url)
    reader.feed(text)
    words = _directives(robots) | reader.directives
    nofollow = bool(words & {"nofollow", "none"})
    canonical = normalised(reader.absolute(reader.canonical)) if reader.canonical else ""
    return Page(
        links=() if nofollow else tuple(reader.links),
        canonical=canonical,
        noindex=bool(words & {"noindex", "none"}),
        nofollow=nofollow,
    )


def _directives(text: str) -> set[str]:
    """Of a header's value: those said to all, or to us (`parley: noindex`)."""
    found, is_ours = set(), True
    for part in text.lower().split(","):
        agent, colon, word = part.rpartition(":")
        if colon:
            is_ours = agent.strip() in _AGENTS
        if is_ours:
            found.add(word.strip())
    return found


class _Reader(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.links: dict[str, None] = {}
        self.canonical = ""
        self.directives: set[str] = set()
        self._base = url
        self._based = False
        self._anchors = 0

    def absolute(self, address: str) -> str:
        if len(address) > ADDRESS_CHARS:
            return ""
        try:
            return urljoin(self._base, address.strip())
        except ValueError:
            return ""

    @property
    def _full(self) -> bool:
        return len(self.links) >= MOST_LINKS or self._anchors >= MOST_ANCHORS

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        relations = said.get("rel", "").lower().split()
        match tag:
            case "meta" if said.get("name", "").lower() in _AGENTS:
                self.directives |= _directives(said.get("content", ""))
            case "base" if said.get("href") and not self._based:
                self._based = True
                self._base = self.absolute(said["href"]) or self._base
            case "link" if "canonical" in relations and not self.canonical:
                self.canonical = said.get("href", "")
            case "a" | "area" if said.get("href") and "nofollow" not in relations and not self._full:
                self._anchors += 1
                if address := normalised(self.absolute(said["href"])):
                    self.links[address] = None
