"""Web origins in the one form that browsers send: scheme, host, and a port that is not the scheme's own."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.http import HttpRequest

from chatbot.errors import InvalidRequest

# Where a page may come without TLS: from the reader's own machine, which browsers trust as they trust https.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
LONGEST = 200
_PORTS = {"https": 443, "http": 80}
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def origin_in(text: str) -> str:
    """The origin that a person or a program named, as a browser would name it. Raises InvalidRequest.

    It is compared as text with a request's `Origin`, so there are no patterns in it.
    """
    parts, port = _parts(text.removesuffix("/"))
    if parts.scheme not in _PORTS:
        raise InvalidRequest("An origin begins with https://.")
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc or "?" in text or "#" in text:
        raise InvalidRequest("An origin has neither a path nor a login: https://shop.example.")
    host = _host(parts.hostname or "")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise InvalidRequest("An origin begins with https://, but on your own machine: http://localhost:3000.")
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")


def _parts(text: str) -> tuple[SplitResult, int | None]:
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise InvalidRequest("An origin has no blanks and no letters beyond ASCII; a browser says xn--… for those.")
    if len(text) > LONGEST:
        raise InvalidRequest(f"An origin has at most {LONGEST} characters.")
    try:
        parts = urlsplit(text)
        return parts, parts.port
    except ValueError as error:
        raise InvalidRequest("This is no origin: https://shop.example.") from error


def _host(name: str) -> str:
    if ":" in name:
        try:
            return f"[{ipaddress.IPv6Address(name).compressed}]"
        except ValueError as error:
            raise InvalidRequest("This is no origin: https://shop.example.") from error
    if not _NAME.fullmatch(name):
        raise InvalidRequest("An origin names one host, without patterns: https://shop.example.")
    return name


def own_origin() -> str:
    """Parley's own, of which the hosted pages are."""
    parts = urlsplit(settings.PARLEY_BASE_URL)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port not in (None, _PORTS.get(parts.scheme)) else ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def origin_of(request: HttpRequest) -> str:
    """The origin of the page that sent a request; empty where it was no page.

    Browsers leave it out where a page of ours reads from us, and say so in a header that no script can set.
    """
    origin = request.headers.get("Origin", "")
    if not origin and request.headers.get("Sec-Fetch-Site") == "same-origin":
        return own_origin()
    return origin
