"""Requests on somebody's word reach public addresses only."""

from __future__ import annotations

import ipaddress
import socket

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult

from chatbot import addresses
from chatbot.addresses import check_url, connector, is_public
from chatbot.errors import InvalidRequest

INNER = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "198.18.0.1", "192.0.0.8", "192.88.99.1", "240.0.0.1",
    "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:a9fe:a9fe", "::ffff:8.8.8.8", "64:ff9b::a00:1",
    "64:ff9b:1::1", "2002:a00:1::", "2001::1", "2001:db8::1", "3fff::1", "100::1", "fec0::1",
]  # fmt: skip
OUTER = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]


@pytest.mark.parametrize("address", INNER)
def test_inner_addresses_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidRequest):
        check_url(f"http://{host}/")
    assert check_url(f"http://{host}/", allowed={address})


@pytest.mark.parametrize("address", OUTER)
def test_outer_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org", "//example.org/", "ftp://example.org/", "file:///etc/passwd", "http://", "http:///path",
        "http://user@example.org/", "http://user:secret@example.org/", "http://@example.org/",
        "http://example.org\\@127.0.0.1/", "http:\\\\example.org", "http://exa mple.org/", "http://example.org/\n",
        "http://example.org:99999/", "http://[::1/", "http://ex\u00e4mple.org/", "http://[fe80::1%25eth0]/",
        "gopher://example.org/", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        check_url(url)


async def _get(url: str, **kwargs: object) -> str:
    async with aiohttp.ClientSession(connector=connector(**kwargs)) as session, session.get(url) as response:  # type: ignore[arg-type]
        return await response.text()


@pytest.fixture
async def port() -> object:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="secret")

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    await runner.cleanup()


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1"])
async def test_a_name_for_an_inner_address_reaches_nothing(port: int, host: str) -> None:
    with pytest.raises(aiohttp.ClientError):
        await _get(f"http://{host}:{port}/")


async def test_an_allowed_name_is_reached(port: int) -> None:
    assert await _get(f"http://localhost:{port}/", allowed={"localhost"}) == "secret"


class _Rebinding(addresses.ThreadedResolver):
    """A name that is public once and inner from then on."""

    answers = iter(["8.8.8.8"])

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        assert host == "rebinds.example"
        found = await super().resolve("127.0.0.1", port, family)
        return [{**result, "host": next(self.answers, result["host"])} for result in found]


async def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "ThreadedResolver", _Rebinding)
    resolver = addresses._PublicResolver(())
    assert [result["host"] for result in await resolver.resolve("rebinds.example", 80)] == ["8.8.8.8"]
    with pytest.raises(OSError, match="not public"):
        await resolver.resolve("rebinds.example", 80)
