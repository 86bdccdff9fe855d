"""Ranges of IP addresses, as people write them and as clients come from them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def ip_range(text: str) -> str:
    """An address or a range in its one spelling, such as 203.0.113.0/24. Raises ValueError, which says why not."""
    text = text.strip()
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"{text[:50]!r} is no address or range: write 203.0.113.7 or 203.0.113.0/24.") from error
        raise ValueError(f"{text!r} is an address within a range: write the range as {meant}.") from error
    if "%" in text:
        raise ValueError(f"{text[:50]!r} names an interface: write the address alone.")
    return str(_plain(network))


def among(address: str, ranges: Iterable[str]) -> bool:
    """Whether an address is in one of these ranges, or there are none. IPv4 within IPv6 counts as IPv4."""
    networks = [_network(text) for text in ranges]
    if not networks:
        return True
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # a server on a Unix socket knows none
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks)


def _plain(network: Network) -> Network:
    """An IPv4 range that is written as IPv6 is one of IPv4."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    return ipaddress.ip_network((mapped, network.prefixlen - 96)) if mapped and network.prefixlen >= 96 else network


@lru_cache(maxsize=1024)
def _network(text: str) -> Network:
    return ipaddress.ip_network(text)
