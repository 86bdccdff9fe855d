"""Fetches a document from an address on somebody's word: public hosts only, within limits, and nothing of ours with it.

Each hop of a redirect is checked like the first. A fetch carries no cookies and no credentials.
"""

from __future__ import annotations

import asyncio
import codecs
import socket
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, TypeVar
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import aiohttp
from yarl import URL

from chatbot.addresses import REFUSED, check_url, connector
from chatbot.charsets import known_charset
from chatbot.errors import ExtractionFailed, InvalidRequest
from chatbot.formats import guess_suffix

MAX_REDIRECTS = 5
CONNECT_SECONDS, TOTAL_SECONDS = 10.0, 30.0  # the latter of all hops together
RETRY_AFTER_LIMIT = 3600.0  # seconds that a host is believed: it may say a lifetime
AGENT = "Parley"
HEADERS = {"User-Agent": AGENT, "Accept": "*/*"}
VERSION_CHARS = 200  # of an ETag or a Last-Modified

_T = TypeVar("_T")
_PIECE = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_NOW = frozenset({408, 425, 429})
_SENTENCES = {
    401: "The address asks for a login, which Parley has not.",
    403: "The address refuses to give the document to Parley.",
    404: "There is no document at this address.",
    410: "There is no document at this address any more.",
}


class FetchFailed(ExtractionFailed):
    """Trying again would change nothing. status: the HTTP status that says so, None where it was not one."""

    code = "fetch_failed"
    default_message = "The document could not be fetched from its address."
    status: int | None = None


class SourceTooLarge(FetchFailed):
    code = "too_large"


class SourceUnsupported(FetchFailed):
    code = "unsupported_type"


class SourceUnavailable(ExtractionFailed):
    """The host does not answer now; it may later."""

    code = "source_unavailable"
    default_message = "The document's address does not answer."


@dataclass(frozen=True, slots=True)
class Fetched:
    """name: a file name for it, whose suffix tells its type. etag, modified: by which the next fetch asks whether it is
    the same. robots: what the host asks of those who index it."""

    name: str
    etag: str
    modified: str
    robots: str


@dataclass(frozen=True, slots=True)
class Moved:
    """What was at the address is at this one."""

    url: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """max_bytes: of the body, unpacked; what has more is refused, or cut there. as_document: it has to be of a kind
    that can be read. Else the address is sent as it is written, for there are signatures that depend on that."""

    max_bytes: int
    allowed: Collection[str]
    etag: str = ""
    modified: str = ""
    cut: bool = False
    as_document: bool = True


async def fetch(
    url: str, into: IO[bytes], *, max_bytes: int, allowed: Collection[str] = (), etag: str = "", modified: str = ""
) -> Fetched | None:
    """Write the document to `into`; None where the host says that it is still the one of `etag` or `modified`.

    Text in an encoding that only the host knows arrives in UTF-8. `allowed`: hosts that need not be public.
    Raises FetchFailed or SourceUnavailable with a sentence for the document's owner.
    """
    return await _in_time(_follow(url, into, _Wanted(max_bytes, allowed, etag, modified)))


async def visit(
    url: str, into: IO[bytes], *, max_bytes: int, allowed: Collection[str] = (), etag: str = "", modified: str = ""
) -> Fetched | Moved | None:
    """The same without following a redirect, for whoever asks first whether it may go there."""
    return await _in_time(_hop(url, into, _Wanted(max_bytes, allowed, etag, modified)))


async def read(url: str, into: IO[bytes], *, max_bytes: int, allowed: Collection[str] = (), cut: bool = False) -> None:
    """Write what is at the address to `into`, of whatever kind it is. cut: take the beginning of what is too large."""
    await _in_time(_follow(url, into, _Wanted(max_bytes, allowed, cut=cut, as_document=False)))


async def _in_time(work: Coroutine[Any, Any, _T]) -> _T:
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            return await work
    except TimeoutError as e:
        raise SourceUnavailable(f"The address did not answer within {TOTAL_SECONDS:g} seconds.") from e
    except aiohttp.ClientError as e:
        raise _translated(e) from e
    except UnicodeError as e:
        raise FetchFailed("There is no host of this name.") from e


async def _follow(url: str, into: IO[bytes], wanted: _Wanted) -> Fetched | None:
    for _ in range(MAX_REDIRECTS + 1):
        found = await _hop(url, into, wanted)
        if not isinstance(found, Moved):
            return found
        url = found.url
    raise FetchFailed(f"The address leads on and on: more than {MAX_REDIRECTS} redirects.")


async def _hop(url: str, into: IO[bytes], wanted: _Wanted) -> Fetched | Moved | None:
    conditions = {"If-None-Match": wanted.etag, "If-Modified-Since": wanted.modified}
    sent = {name: value for name, value in conditions.items() if value}
    async with (
        aiohttp.ClientSession(
            connector=connector(allowed=wanted.allowed),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            headers=HEADERS | sent,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        ) as session,
        session.get(
            URL(_checked(url, wanted.allowed), encoded=not wanted.as_document), allow_redirects=False
        ) as response,
    ):
        if response.status in _REDIRECTS and "Location" in response.headers:
            return Moved(_next(url, response.headers["Location"]))
        if response.status == 304 and sent:
            return None
        _check_status(response)
        await _receive(response, into, wanted)
        return Fetched(
            name=_name(url, response, into) if wanted.as_document else "",
            etag=_version(response, "ETag"),
            modified=_version(response, "Last-Modified"),
            robots=", ".join(response.headers.getall("X-Robots-Tag", [])),
        )


def _checked(url: str, allowed: Collection[str]) -> str:
    try:
        return check_url(url, allowed=allowed)
    except InvalidRequest as e:
        raise FetchFailed(e.message) from e


def _next(url: str, location: str) -> str:
    try:
        following = urldefrag(urljoin(url, location))[0]
        schemes = urlsplit(url).scheme, urlsplit(following).scheme
    except ValueError as e:
        raise FetchFailed("The address leads to something that is no address.") from e
    if schemes[0] == "https" != schemes[1]:
        raise FetchFailed("The address leads from https to an address that is not.")
    return following


def _check_status(response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status >= 500 or status in _NOT_NOW:
        wait = response.headers.get("Retry-After", "")
        seconds = min(float(wait), RETRY_AFTER_LIMIT) if wait.isascii() and wait.isdigit() else None
        raise SourceUnavailable(f"The host answered {status}.", retry_after=seconds)
    if status != 200:
        failed = FetchFailed(_SENTENCES.get(status, f"The host answered {status}."))
        failed.status = status
        raise failed


async def _receive(response: aiohttp.ClientResponse, into: IO[bytes], wanted: _Wanted) -> None:
    """Write the body, unpacked, and in UTF-8 where it is text of another encoding."""
    max_bytes = wanted.max_bytes
    too_large = SourceTooLarge(f"What is at this address has more than {max_bytes / 2**20:.4g} MiB.")
    if (response.content_length or 0) > max_bytes and not wanted.cut:
        raise too_large
    is_text = response.content_type.startswith("text/") or response.content_type == "application/xhtml+xml"
    charset = known_charset(response.charset or "") if is_text else ""
    recode = codecs.getincrementaldecoder(charset)("replace") if charset not in {"", "utf-8"} else None
    if recode:
        into.write(codecs.BOM_UTF8)  # lest what the page says of its encoding is believed
    written = 0
    async for piece in response.content.iter_chunked(_PIECE):
        content = recode.decode(piece).encode() if recode else piece
        if written + len(content) > max_bytes:
            if not wanted.cut:
                raise too_large
            into.write(content[: max_bytes - written])
            return
        written += len(content)
        into.write(content)
    if recode:
        into.write(recode.decode(b"", True).encode())
    if not written:
        raise FetchFailed("There is nothing at this address: the host sent an empty document.")


def _name(url: str, response: aiohttp.ClientResponse, content: IO[bytes]) -> str:
    path = PurePosixPath(unquote(urlsplit(url).path, errors="replace"))
    sent_as = response.content_type if "Content-Type" in response.headers else ""
    suffix = guess_suffix(path.name, sent_as, content)
    if not suffix:
        kind = f", {sent_as[:100]}," if sent_as else ""
        raise SourceUnsupported(f"What is at this address{kind} is of no kind that can be read.")
    return f"{path.stem or urlsplit(url).hostname}{suffix}"


def _version(response: aiohttp.ClientResponse, header: str) -> str:
    found = response.headers.get(header, "")
    return found if len(found) <= VERSION_CHARS and found.isascii() and found.isprintable() else ""


def _translated(error: aiohttp.ClientError) -> ExtractionFailed:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return _unresolved(error.os_error)
        case aiohttp.ClientSSLError():
            return FetchFailed("The host's certificate or encryption is not valid.")
        case aiohttp.InvalidURL():
            return FetchFailed("This is not an address.")
        case aiohttp.ClientPayloadError():
            return SourceUnavailable("The host's answer broke off or could not be unpacked.")
    return SourceUnavailable("The host could not be reached.")


def _unresolved(error: OSError) -> ExtractionFailed:
    if error.strerror == REFUSED:
        return FetchFailed(REFUSED)
    if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
        return FetchFailed("There is no host of this name.")
    return SourceUnavailable("The host's name could not be looked up.")
