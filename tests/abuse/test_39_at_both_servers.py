"""What no real client sends, sent to the servers themselves: refused, and the next request is answered."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.faults.replicas import launch

pytestmark = pytest.mark.journey

DEEP = b"[" * 100_000
HEAD = b"%s /api/v1/conversations HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
JSON = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
REQUESTS = {
    "10,000 times the same header": HEAD % b"GET" + b"X-A: b\r\n" * 10_000 + b"\r\n",
    "10,000 keys": HEAD % b"GET" + b"X-Api-Key: b\r\n" * 10_000 + b"\r\n",
    "10,000 addresses": HEAD % b"GET" + b"X-Forwarded-For: 192.0.2.1\r\n" * 10_000 + b"\r\n",
    "10,000 cookies": HEAD % b"GET" + b"Cookie: sessionid=x\r\n" * 10_000 + b"\r\n",
    "null": HEAD % b"POST" + JSON % (4, b"null"),
    "deep JSON": HEAD % b"POST" + JSON % (len(DEEP), DEEP),
}


async def status_of(port: int, request: bytes) -> int:
    """0 where the connection was cut without an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            writer.write(request)
            line = await reader.readline()
        return int(line.split()[1]) if line else 0
    except ConnectionError:
        return 0
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_no_request_makes_a_server_fail(database: None, server: str) -> None:
    web = launch(server, {})
    try:
        async with aiohttp.ClientSession() as session:
            await web.ready(session)
        for name, request in REQUESTS.items():
            assert await status_of(web.port, request) < 500, name
            assert await status_of(web.port, HEAD % b"GET" + b"\r\n") == 401, f"after {name}"
        assert not [line for line in web.lines() if line.get("level") in {"error", "critical"}]
    finally:
        web.kill()
