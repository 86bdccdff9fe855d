"""Ranges of addresses: written in one way, IPv4 within IPv6 included, and what is none is told in a sentence."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.tenants.addresses import among, ip_range


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        (" 203.0.113.0/24 ", "203.0.113.0/24"),
        ("203.0.113.0/255.255.255.0", "203.0.113.0/24"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("::/0", "::/0"),
    ],
)
def test_one_spelling(written: str, kept: str) -> None:
    assert ip_range(written) == kept
    assert ip_range(kept) == kept
    assert len(kept) <= 43


@pytest.mark.parametrize(
    "text", ["", "acme.example", "203.0.113", "203.0.113.0/33", "10.0.0.0-10.0.0.9", "\0", "fe80::1%eth0"]
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        ip_range(text)


def test_a_range_with_an_address_in_it_says_what_may_be_meant() -> None:
    with pytest.raises(ValueError, match=r"write the range as 203\.0\.113\.0/24"):
        ip_range("203.0.113.7/24")


@pytest.mark.parametrize(
    ("address", "ranges", "inside"),
    [
        ("203.0.113.7", [], True),
        ("", [], True),
        ("", ["0.0.0.0/0", "::/0"], False),
        ("203.0.113.7", ["203.0.113.0/24"], True),
        ("::ffff:203.0.113.7", ["203.0.113.0/24"], True),
        ("203.0.114.7", ["203.0.113.0/24", "10.0.0.0/8"], False),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("2001:db9::1", ["2001:db8::/32"], False),
        ("203.0.113.7", ["::/0"], False),
        ("nonsense", ["0.0.0.0/0"], False),
        ("203.0.113.7, 10.0.0.1", ["203.0.113.0/24"], False),
    ],
)
def test_who_is_inside(address: str, ranges: list[str], inside: bool) -> None:
    assert among(address, ranges) == inside


@given(st.ip_addresses(), st.integers(0, 32))
def test_an_address_is_inside_its_own_range(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, shorter: int) -> None:
    network = ipaddress.ip_network((ip, ip.max_prefixlen - shorter), strict=False)
    assert among(str(ip), [ip_range(str(network))])
