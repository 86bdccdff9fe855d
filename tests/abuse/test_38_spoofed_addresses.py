"""The rate of an address is that of the connection, whatever a client says of itself; IPv6 counts by /64."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.abuse.conftest import send
from tests.abuse.test_38_forwarded_addresses import HEADERS
from tests.apps.conversations.test_websocket import Socket
from tests.faults.replicas import launch

BURST = 4
RATE = {"PARLEY_ADDRESS_REQUESTS_A_MINUTE": "1", "PARLEY_ADDRESS_BURST": str(BURST)}


@pytest.fixture
def few(database: None, settings: Any) -> None:
    settings.PARLEY_ADDRESS_REQUESTS_A_MINUTE, settings.PARLEY_ADDRESS_BURST = 1, BURST


@pytest.mark.parametrize("header", HEADERS)
async def test_an_invented_address_has_no_rate_of_its_own(few: None, header: str) -> None:
    statuses = [
        (await send("GET", "/api/schema", {header.lower().encode(): f"192.0.2.{n}".encode()})).status for n in range(6)
    ]
    assert statuses == [200] * BURST + [429] * 2


@pytest.mark.parametrize("header", HEADERS)
async def test_nor_has_one_on_a_socket(few: None, header: str) -> None:
    told = []
    for n in range(BURST + 1):
        socket = Socket(**{header: f"192.0.2.{n}"})
        socket.scope["client"] = ["203.0.113.1", 4711]
        await socket.connect()
        await socket.say(type="nonsense")
        told.append((await socket.hear())["code"])
        await socket.disconnect()
    assert told == ["invalid_request"] * BURST + ["rate_limited"]


async def test_an_ipv6_network_is_one_client(few: None) -> None:
    async def ask(address: str) -> int:
        return (await send("GET", "/api/schema", client=address)).status

    assert [await ask(f"2001:db8:1:2:{n:x}::{n:x}") for n in range(6)] == [200] * BURST + [429] * 2
    assert await ask("2001:db8:1:3::1") == 200
    # IPv4 addresses are clients of their own, however a server writes them.
    assert [await ask(f"192.0.2.{n}") for n in range(6)] == [200] * 6
    assert [await ask("::ffff:192.0.2.9") for _ in range(BURST)] == [200] * BURST
    assert await ask("192.0.2.9") == 429


# --- Both servers -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def ask(session: aiohttp.ClientSession, address: str, forwarded_for: str) -> int:
    headers = {"X-Forwarded-For": forwarded_for, "X-Real-Ip": "192.0.2.200", "Forwarded": "for=192.0.2.201"}
    headers["X-Forwarded-Proto"] = "https"
    async with session.get(f"{address}/api/schema", headers=headers) as response:
        return response.status


async def handshake(session: aiohttp.ClientSession, address: str, forwarded_for: str) -> str:
    """What a socket hears first: nothing before it said who it is, or that it is too much."""
    async with session.ws_connect(f"{address}/ws/chat", headers={"X-Forwarded-For": forwarded_for}) as socket:
        await socket.send_json({"type": "nothing"})
        return str((await socket.receive_json())["type"])


@pytest.mark.journey
@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
@pytest.mark.parametrize(
    ("settings_of_it", "spoof"),
    [
        # Nobody is a proxy.
        ({}, "192.0.2.{}"),
        # Others are.
        ({"PARLEY_BEHIND_PROXY": "on", "PARLEY_TRUSTED_PROXIES": "10.0.0.0/8"}, "192.0.2.{}"),
        # This machine is: it added the last address, and a client the others.
        ({"PARLEY_BEHIND_PROXY": "on"}, "192.0.2.{}, 203.0.113.1"),
        ({"PARLEY_BEHIND_PROXY": "on", "PARLEY_TRUSTED_PROXIES": "127.0.0.1"}, "192.0.2.{}, 203.0.113.1, 127.0.0.1"),
    ],
)
async def test_by_both_servers(
    database: None,
    session: aiohttp.ClientSession,
    server: str,
    settings_of_it: dict[str, str],
    spoof: str,
) -> None:
    web = launch(server, {}, **RATE, **settings_of_it)
    try:
        await web.ready(session)
        statuses = [await ask(session, web.address, spoof.format(n)) for n in range(BURST + 2)]
        assert statuses == [200] * BURST + [429] * 2
        assert await handshake(session, web.address, spoof.format(99)) == "limits"
        if "PARLEY_BEHIND_PROXY" in settings_of_it and "203" in spoof:  # another client of the same proxy
            assert await ask(session, web.address, "203.0.113.2") == 200
            assert await handshake(session, web.address, "203.0.113.2") == "error"
    finally:
        web.kill()
