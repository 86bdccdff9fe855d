"""Whose word counts for where a client is: that of the proxies which an operator named, and nobody else's.

The servers themselves take the first address of X-Forwarded-For, which a client may have written. Here the list is read
from its end, where each proxy adds the one that it spoke to.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from django.conf import settings

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_CLAIMS = (b"forwarded", b"x-real-ip")


class Proxies:
    """An ASGI application around another, which learns the client's own address and none of a stranger's claims."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] in {"http", "websocket"}:
            scope = _believed(scope)
        await self._application(scope, receive, send)


def _believed(scope: Any) -> Any:
    peer = (scope.get("client") or [""])[0]
    if not _is_proxy(peer):
        told = [(name, value) for name, value in scope["headers"] if not _is_claim(name.lower())]
        return {**scope, "headers": told}
    chain = [value for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"]
    return {**scope, "client": [client_of(peer, b",".join(chain).decode("latin-1")), 0]}


def client_of(peer: str, forwarded_for: str) -> str:
    """The last address that no trusted proxy has; where none are named, the last one. What cannot be read ends it."""
    found = peer
    for entry in reversed(forwarded_for.split(",")):
        ip = _ip_in(entry)
        if ip is None:
            break
        found = str(ip)
        if not _is_named(ip):
            break
    return found


def _is_proxy(peer: str) -> bool:
    ip = ip_of(peer)
    # A Unix socket has no address; who may open it is for the file's rights to say.
    return not settings.PARLEY_TRUSTED_PROXIES or ip is None or _is_named(ip)


def _is_named(ip: IP) -> bool:
    return any(ip in network for network in settings.PARLEY_TRUSTED_PROXIES)


def _is_claim(name: bytes) -> bool:
    return name.startswith(b"x-forwarded-") or name in _CLAIMS


def _ip_in(entry: str) -> IP | None:
    """The address of an entry, which may have a port: 192.0.2.1:4711, [2001:db8::1]:4711."""
    entry = entry.strip()
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    return ip_of(entry)


def ip_of(text: str) -> IP | None:
    """An address, IPv4 within IPv6 as IPv4; None where it is none."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip
