"""Where requests on somebody's word may go: to public addresses, and to hosts that an operator names.

A name is resolved once, every address it has is checked, and the connection goes to one of those: a name that points
elsewhere a moment later reaches nothing. Redirects are not followed here; who follows one checks its target first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from chatbot.errors import InvalidRequest

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Everything allocated for use on the Internet lies in 2000::/3. Not so what carries an IPv4 address within
# (6to4, Teredo), documentation and benchmarks. Source: IANA's special-purpose registry.
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_SPECIAL_V6 = tuple(map(ipaddress.ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_SPECIAL_V4 = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24")))  # the latter: 6to4 relays

_FAMILIES = (socket.AF_INET, socket.AF_INET6)

REFUSED = "This address is not public, and no operator has allowed it."


def is_public(address: _IPAddress) -> bool:
    """Whether the address belongs to the public Internet and to one host."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and not _within(address, _SPECIAL_V4)
    return address in _GLOBAL_V6 and not _within(address, _SPECIAL_V6)


def _within(address: _IPAddress, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(address in network for network in networks)


def check_url(url: str, *, allowed: Collection[str] = ()) -> str:
    """Return an http(s) address without login or tricks whose host may be public or is one of `allowed`.

    Raises InvalidRequest. Names are only looked up when a connection is made: see connector().
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise InvalidRequest("The address holds characters that addresses do not have.")
    try:
        parts: SplitResult = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRequest("This is not an address.") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise InvalidRequest("An address begins with http:// or https:// and names a host.")
    if "@" in parts.netloc:
        raise InvalidRequest("The address holds a login.")
    literal = _literal(host)
    if literal is not None and not is_public(literal) and host not in allowed:
        raise InvalidRequest(REFUSED)
    return url


def connector(
    *, allowed: Collection[str] = (), keep_alive: float = 15.0, tls: ssl.SSLContext | None = None
) -> aiohttp.TCPConnector:
    """Connects to public addresses and `allowed` hosts only; a refused host is an aiohttp.ClientError. tls: whom to
    trust; by default those whom this machine trusts.

    It sees no addresses written as numbers, for those aiohttp does not resolve: check_url() before each request.
    """
    resolver = _PublicResolver(allowed)
    return aiohttp.TCPConnector(limit=0, keepalive_timeout=keep_alive, resolver=resolver, ssl=tls or True)


def may_connect(host: str, address: str, *, allowed: Collection[str] = ()) -> bool:
    """Whether a connection to `address`, which `host` was resolved to, may be made."""
    literal = _literal(address)
    return host in allowed or (literal is not None and is_public(literal))


# Not the loop's own threads: a short-lived loop would wait at its end for a name server that does not answer.
_lookups = ThreadPoolExecutor(max_workers=4, thread_name_prefix="names")


async def addresses_of(host: str, port: int) -> list[str]:
    """The addresses that a name has now, sorted: those of IPv4, or of IPv6 where it has no others, since a server that
    has both is still one. Unchecked: whoever connects asks may_connect(). Raises OSError or UnicodeError."""
    found = await asyncio.get_running_loop().run_in_executor(
        _lookups,
        partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG),
    )
    by_family = {family: {str(at[0]) for kind, *_, at in found if kind == family} for family in _FAMILIES}
    return sorted(by_family[socket.AF_INET] or by_family[socket.AF_INET6])


class _PublicResolver(AbstractResolver):
    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(allowed)
        self._names = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        # One that is not public condemns them all: connections are tried in any order.
        if not all(may_connect(host, result["host"], allowed=self._allowed) for result in found):
            raise OSError(None, REFUSED)
        return found

    async def close(self) -> None:
        await self._names.close()


def _literal(host: str) -> _IPAddress | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
