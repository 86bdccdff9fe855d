"""Whose word counts for where a client is."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from apps.edge.proxies import Proxies

NOBODY: tuple[str, ...] = ()
NAMED = ("10.0.0.0/8", "2001:db8:1::/48")
SPOOFED = "198.51.100.7"


async def seen(kind: str, peer: str | None, *chains: str, **claims: str) -> tuple[str, dict[str, str]]:
    """The address that the application learns, and the headers."""
    told: dict[str, Any] = {}

    async def application(scope: Any, _receive: Any, _send: Any) -> None:
        told.update(scope)

    headers = [(b"X-Forwarded-For", chain.encode()) for chain in chains]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in claims.items()]
    scope = {"type": kind, "client": [peer, 4711] if peer is not None else None, "headers": headers}
    await Proxies(application)(scope, None, None)
    address = (told["client"] or [""])[0]
    return address, {name.decode().lower(): value.decode() for name, value in told["headers"]}


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("trusted", "peer", "chains", "address"),
    [
        # Where none is named whoever connects is believed: for the one address that it added itself.
        (NOBODY, "10.1.2.3", ["192.0.2.1"], "192.0.2.1"),
        (NOBODY, "10.1.2.3", [f"{SPOOFED}, 192.0.2.1"], "192.0.2.1"),
        (NOBODY, "10.1.2.3", [SPOOFED, "192.0.2.1"], "192.0.2.1"),
        (NOBODY, "10.1.2.3", [], "10.1.2.3"),
        (NOBODY, None, ["192.0.2.1"], "192.0.2.1"),
        # Those that are named are skipped, from the end.
        (NAMED, "10.1.2.3", [f"{SPOOFED}, 192.0.2.1, 10.9.9.9"], "192.0.2.1"),
        (NAMED, "10.1.2.3", [f"{SPOOFED}, 192.0.2.1", "10.9.9.9, 2001:db8:1::5"], "192.0.2.1"),
        (NAMED, "2001:db8:1::1", [f"{SPOOFED}, 2001:db8:2::7"], "2001:db8:2::7"),
        (NAMED, "::ffff:10.1.2.3", ["192.0.2.1"], "192.0.2.1"),
        (NAMED, "10.1.2.3", ["10.7.7.7"], "10.7.7.7"),
        # Ports, as some proxies add them.
        (NAMED, "10.1.2.3", ["192.0.2.1:4711"], "192.0.2.1"),
        (NAMED, "10.1.2.3", ["[2001:db8:2::7]:4711"], "2001:db8:2::7"),
        (NAMED, "10.1.2.3", ["::ffff:192.0.2.1"], "192.0.2.1"),
        # Nobody behind what cannot be read.
        (NAMED, "10.1.2.3", [f"{SPOOFED}, unknown"], "10.1.2.3"),
        (NAMED, "10.1.2.3", [f"{SPOOFED}, , 10.4.4.4"], "10.4.4.4"),
        (NAMED, "10.1.2.3", ["<script>"], "10.1.2.3"),
        # Strangers.
        (NAMED, "192.0.2.9", [SPOOFED], "192.0.2.9"),
        (NAMED, "2001:db8:2::9", [f"{SPOOFED}, 10.1.2.3"], "2001:db8:2::9"),
    ],
)
async def test_the_clients_address(  # noqa: PLR0917 - a row of the table
    settings: Any, kind: str, trusted: tuple[str, ...], peer: str | None, chains: list[str], address: str
) -> None:
    settings.PARLEY_TRUSTED_PROXIES = [ipaddress.ip_network(one) for one in trusted]
    assert (await seen(kind, peer, *chains))[0] == address


async def test_nothing_that_a_stranger_claims_reaches_the_application(settings: Any) -> None:
    settings.PARLEY_TRUSTED_PROXIES = [ipaddress.ip_network(one) for one in NAMED]
    claims = {"X_Forwarded_Proto": "https", "X_Real_Ip": SPOOFED, "Forwarded": f"for={SPOOFED}", "Accept": "*/*"}
    address, headers = await seen("http", "192.0.2.9", SPOOFED, **claims)
    assert (address, headers) == ("192.0.2.9", {"accept": "*/*"})
    _, headers = await seen("http", "10.1.2.3", "192.0.2.1", **claims)
    assert headers["x-forwarded-proto"] == "https"


async def test_ten_thousand_of_them_end_as_one(settings: Any) -> None:
    settings.PARLEY_TRUSTED_PROXIES = [ipaddress.ip_network(one) for one in NAMED]
    for entry, address in ((SPOOFED, SPOOFED), ("10.1.1.1", "10.1.1.1"), ("x" * 100, "10.1.2.3")):
        assert (await seen("http", "10.1.2.3", *[entry] * 10_000))[0] == address


async def test_other_headers_than_x_forwarded_for_name_nobody(settings: Any) -> None:
    settings.PARLEY_TRUSTED_PROXIES = []
    address, _ = await seen("http", "10.1.2.3", X_Real_Ip=SPOOFED, Forwarded=f"for={SPOOFED}")
    assert address == "10.1.2.3"
