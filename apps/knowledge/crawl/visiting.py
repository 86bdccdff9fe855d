"""Looks at one page of a source: fetches it where it is new or has changed, and tells where it leads."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any, TypeVar

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import connections

from apps.knowledge.crawl import bucket, folder, frontier, scope, taking
from apps.knowledge.crawl.frontier import Found, Visited
from apps.knowledge.crawl.manners import Manners
from apps.knowledge.models import Source, SourcePage, SourceRun
from apps.tenants.scoping import unit
from chatbot import links, sitemaps
from chatbot.charsets import decoded
from chatbot.errors import ExtractionFailed, UnsupportedType
from chatbot.fetching import MAX_REDIRECTS, Fetched, FetchFailed, Moved, read, visit
from chatbot.formats import HTML, SUFFIXES

T = TypeVar("T")
GONE = {404, 410}
START = "/"  # of a folder or a bucket, where nothing is called so


class RobotsForbidError(ExtractionFailed):
    code = "robots_forbid"
    default_message = "The host's robots.txt forbids to fetch this."


class NoIndexError(ExtractionFailed):
    code = "noindex"
    default_message = "The page asks not to be indexed."


def start_of(source: Source) -> tuple[Found, bool]:
    """Where a run begins, and whether that is a list of pages and no page itself."""
    if source.kind in {Source.Kind.SITE, Source.Kind.SITEMAP}:
        return Found(source.location), source.kind == Source.Kind.SITEMAP
    return Found(START), True


async def look_at(run: SourceRun, page: SourcePage, manners: Manners) -> Visited:
    """Raises what is wrong with the page (taking.REFUSED), what keeps it from being asked now (HostBusyError,
    SourceUnavailable), and what ends the run, see taking."""
    match run.source.kind, page.listing:
        case ((Source.Kind.SITE | Source.Kind.SITEMAP), False):
            return await _look_at_web_page(run, page, manners)
        case Source.Kind.SITEMAP, True:
            return await _read_sitemap(run.source, page, manners)
        case Source.Kind.FOLDER, True:
            found = await asyncio.to_thread(folder.files_in, run.source.location, run.source.max_pages + 1)
            return Visited("unchanged", found)
        case Source.Kind.FOLDER, False:
            return await apart(partial(_take_file, run.source, page))
        case _, True:
            return await _list_bucket(run.source)
    return await _take_object(run.source, page)


async def apart(work: Callable[[], T]) -> T:
    """Run `work`, which has transactions of its own, in a thread that gives its connection back."""

    def run() -> T:
        try:
            return work()
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


# --- The web ----------------------------------------------------------------------------------------------------------


async def _look_at_web_page(run: SourceRun, page: SourcePage, manners: Manners) -> Visited:
    url, source = page.address, run.source
    if not scope.holds(source, url):
        raise scope.elsewhere(url)
    if not await manners.allow(url):
        return Visited("refused", refusal=RobotsForbidError(), absent=True)
    await manners.take_turn(url)
    document = getattr(page, "document", None)
    version = {"etag": document.etag, "modified": document.modified} if document and document.source_url == url else {}
    with tempfile.TemporaryFile(prefix="parley-fetch-") as content:
        try:
            found = await visit(
                url,
                content,
                max_bytes=settings.PARLEY_MAX_UPLOAD_BYTES,
                allowed=settings.PARLEY_PRIVATE_SOURCE_HOSTS,
                **version,
            )
        except FetchFailed as error:
            if error.status in GONE:
                return Visited("refused", refusal=error, absent=True)
            raise
        if found is None:
            return await _keep_web_page(run, page, manners)
        if isinstance(found, Moved):
            return _moved(page, links.normalised(found.url))
        return await _take_web_page(run, page, found, content)


async def _keep_web_page(run: SourceRun, page: SourcePage, manners: Manners) -> Visited:
    """The host says that it is the version which we have."""
    document = page.document
    try:
        said = await apart(partial(_links_of_stored, run, page))
    except FileNotFoundError:
        # Our copy is lost. The version is forgotten first: should the host have to be waited for, it is not asked
        # for what is newer again.
        document.etag = document.modified = ""
        await apart(partial(taking.note, page, etag="", modified=""))
        return await _look_at_web_page(run, page, manners)
    await apart(partial(taking.note, page, etag=document.etag, modified=document.modified))
    return _led(run, page, "unchanged", said)


def _moved(page: SourcePage, target: str) -> Visited:
    if page.hops >= MAX_REDIRECTS:
        raise FetchFailed(f"The address leads on and on: more than {MAX_REDIRECTS} redirects.")
    if target == page.address:
        raise FetchFailed("The address leads to itself.")
    return Visited("moved", [Found(target)], depth=page.depth, hops=page.hops + 1)


async def _take_web_page(run: SourceRun, page: SourcePage, found: Fetched, content: IO[bytes]) -> Visited:
    said = await asyncio.to_thread(_read_page, page.address, found, content)
    if said.canonical != page.address and await _is_elsewhere(run, page, said.canonical):
        return _moved(page, said.canonical)
    if said.noindex:
        return replace(_led(run, page, "refused", said), refusal=NoIndexError(), absent=True)
    file = File(content, name=found.name)
    try:
        outcome = await apart(partial(taking.take, run.source, page, file, etag=found.etag, modified=found.modified))
    except taking.REFUSED as error:
        return replace(_led(run, page, "refused", said), refusal=error)
    return _led(run, page, outcome, said)


async def _is_elsewhere(run: SourceRun, page: SourcePage, canonical: str) -> bool:
    """Whether to take what is at the canonical address instead, where there is one of this source."""
    if not canonical or page.hops >= MAX_REDIRECTS or not scope.holds(run.source, canonical):
        return False
    # Two pages may each call the other one canonical: the second is taken as it is.
    return not await unit(frontier.has_moved, run, canonical)


def _read_page(url: str, found: Fetched, content: IO[bytes]) -> links.Page:
    text = ""
    if SUFFIXES.get(PurePosixPath(found.name).suffix) == HTML:
        content.seek(0)
        text = decoded(content.read(2 * links.PAGE_CHARS))
    return links.page_of(text, url, found.robots)


def _links_of_stored(run: SourceRun, page: SourcePage) -> links.Page:
    """Of a page that has not changed: what it links to is in the bytes that we have."""
    document = page.document
    if run.source.kind != Source.Kind.SITE or document.media_type != HTML:
        return links.Page()
    with default_storage.open(document.stored) as content:
        return links.page_of(decoded(content.read(2 * links.PAGE_CHARS)), page.address)


def _led(run: SourceRun, page: SourcePage, outcome: frontier.Outcome, said: links.Page) -> Visited:
    """Its links are followed on a site, as deep as that goes."""
    source = run.source
    if source.kind != Source.Kind.SITE or page.depth >= source.depth:
        return Visited(outcome)
    inside = [Found(url) for url in said.links if scope.holds(source, url) and links.is_readable(url)]
    return Visited(outcome, inside, depth=page.depth + 1)


async def _read_sitemap(source: Source, page: SourcePage, manners: Manners) -> Visited:
    if not scope.holds(source, page.address):
        raise scope.elsewhere(page.address)
    await manners.take_turn(page.address)
    with tempfile.TemporaryFile(prefix="parley-fetch-") as content:
        allowed = settings.PARLEY_PRIVATE_SOURCE_HOSTS
        await read(page.address, content, max_bytes=sitemaps.MAX_BYTES, allowed=allowed)
        sitemap = await asyncio.to_thread(sitemaps.sitemap_of, content)
    found = [Found(url) for url in sitemap.addresses]
    return Visited("unchanged", found, listings=sitemap.is_index)


# --- Folders and buckets ----------------------------------------------------------------------------------------------


def _take_file(source: Source, page: SourcePage) -> Visited:
    _refuse_unreadable(page.address)
    try:
        if _is_known(page):
            return Visited("unchanged")
        with folder.opened(source.location, page.address) as content:
            return Visited(taking.take(source, page, _named(content, page.address), etag=page.version))
    except FileNotFoundError:
        return Visited("refused", refusal=FetchFailed("The file was deleted meanwhile, or is a link."), absent=True)
    except PermissionError as error:
        raise FetchFailed("The file may not be read.") from error


async def _list_bucket(source: Source) -> Visited:
    found: list[Found] = []
    async for one in bucket.objects_in(source):
        found.append(one)
        if len(found) > source.max_pages:
            break
    return Visited("unchanged", found)


async def _take_object(source: Source, page: SourcePage) -> Visited:
    _refuse_unreadable(page.address)
    if _is_known(page):
        return Visited("unchanged")
    with tempfile.TemporaryFile(prefix="parley-fetch-") as content:
        try:
            await bucket.fetch_object(source, page.address, content)
        except FetchFailed as error:
            if error.status in GONE:
                return Visited("refused", refusal=error, absent=True)
            raise
        file = _named(content, page.address)
        return Visited(await apart(partial(taking.take, source, page, file, etag=page.version)))


def _is_known(page: SourcePage) -> bool:
    """Whether the document is of the version that the list names."""
    return hasattr(page, "document") and bool(page.version) and page.document.etag == page.version


def _refuse_unreadable(path: str) -> None:
    """Before a byte of it is fetched."""
    if PurePosixPath(path).suffix.lower() not in SUFFIXES:
        raise UnsupportedType(f"Files of this kind cannot be read. Readable are {', '.join(sorted(SUFFIXES))}.")


def _named(content: IO[bytes], path: str) -> File[Any]:
    return File(content, name=PurePosixPath(path).name)
