"""Row 42: frames beyond 64 KiB, bombs and floods end their own socket by the code that docs/websocket.md names, before
they are held in memory; a malformed or binary frame only gets an answer. Nobody else notices."""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.deploy.test_nginx_journey import listening
from tests.fakes.inference import Reply
from tests.journeys.client import Doors, heard, say
from tests.journeys.conftest import World, model, web_process, world  # noqa: F401 - fixtures among them

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

LARGEST = 64 * 1024
MIB = 2**20


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def doors(request: pytest.FixtureRequest, world: World) -> Iterator[Doors]:  # noqa: F811
    with web_process(request.param) as address:
        yield Doors(address, world.key)


@pytest.fixture
def process(doors: Doors) -> psutil.Process:
    return listening(doors.base_url.removeprefix("http://"))


@pytest.fixture(autouse=True)
async def bystander(doors: Doors, world: World) -> AsyncIterator[None]:  # noqa: F811
    """Another socket, connected before and asked after: it must not have noticed."""
    world.model.script(Reply(tokens=["Prime", " it."], always=True))
    async with doors.socket() as chat:
        yield
        await say(chat, type="ask", assistant="guide", text="pump?")
        assert [event async for event in heard(chat)][-1].data["text"] == "Prime it."


async def told(chat: ClientConnection) -> AsyncIterator[str]:
    """What it is told until it is closed."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(60):
            while True:
                yield str(await chat.recv())


async def closed(chat: ClientConnection) -> int | None:
    """Read to the end; gives the close code."""
    async for _ in told(chat):
        pass
    return chat.close_code


async def errors(chat: ClientConnection, count: int) -> list[str]:
    frames = [json.loads(await chat.recv()) for _ in range(count)]
    assert {frame["type"] for frame in frames} == {"error"}
    return [frame["code"] for frame in frames]


@asynccontextmanager
async def raw(doors: Doors, extensions: str = "") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A socket whose frames are written byte by byte, after the handshake and `ready`."""
    port = int(doors.base_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        "GET /ws/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extensions}"
        f"Authorization: Bearer {doors.key}\r\n\r\n"
    )
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"permessage-deflate" not in answer
    await reader.readuntil(b'"limits"')
    await reader.readuntil(b"]}")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def header(first: int, length: int) -> bytes:
    """Of a masked frame; the mask is zero."""
    if length < 126:
        size = bytes([0x80 | length])
    elif length < 65536:
        size = b"\xfe" + length.to_bytes(2, "big")
    else:
        size = b"\xff" + length.to_bytes(8, "big")
    return bytes([first]) + size + b"\0\0\0\0"


async def close_code(reader: asyncio.StreamReader) -> int:
    """Of the close frame that comes next, skipping others."""
    async with asyncio.timeout(60):
        while True:
            first, size = await reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2), "big")
            payload = await reader.readexactly(size)
            if first & 0x0F == 8:
                return int.from_bytes(payload[:2], "big")


# --- Too large --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [LARGEST + 1, 16 * MIB])
async def test_a_large_frame_closes_with_1009(doors: Doors, size: int) -> None:
    async with doors.socket() as chat:
        with suppress(ConnectionClosed):
            await chat.send("x" * size)
        assert await closed(chat) == 1009


async def test_one_of_exactly_64_kib_is_taken(doors: Doors) -> None:
    async with doors.socket() as chat:
        await chat.send("x" * LARGEST)
        assert await errors(chat, 1) == ["invalid_request"]


async def test_many_fragments_count_as_one_frame(doors: Doors) -> None:
    async with doors.socket() as chat:
        with suppress(ConnectionClosed):
            await chat.send("x" * 1024 for _ in range(1024))
        assert await closed(chat) == 1009


async def test_its_length_alone_is_enough(doors: Doors) -> None:
    """Nothing of the payload is sent, so nothing of it can have been waited for."""
    async with raw(doors) as (reader, writer):
        writer.write(header(0x81, 16 * MIB))
        assert await close_code(reader) == 1009


async def test_whoever_sends_on_takes_no_memory(doors: Doors, process: psutil.Process) -> None:
    before = process.memory_info().rss
    largest = before

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal largest
        writer.write(header(0x81, 256 * MIB))
        try:
            for _ in range(256):
                writer.write(bytes(MIB))
                await writer.drain()
                largest = max(largest, process.memory_info().rss)
        except ConnectionError:
            pass

    async with raw(doors) as (reader, writer):
        pouring = asyncio.create_task(pour(writer))
        assert await close_code(reader) == 1009
        await asyncio.wait_for(pouring, 60)
    assert largest - before < 16 * MIB


async def test_a_bomb_is_not_inflated(doors: Doors, process: psutil.Process) -> None:
    """Compression is offered and not taken; a compressed frame all the same breaks the protocol, whatever is in it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (packer.compress(bytes(32 * MIB)) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(bomb) < LARGEST
    before = process.memory_info().rss
    async with raw(doors, "Sec-WebSocket-Extensions: permessage-deflate\r\n") as (reader, writer):
        writer.write(header(0xC1, len(bomb)) + bomb)
        assert await close_code(reader) == 1002
    assert process.memory_info().rss - before < 16 * MIB


async def test_a_client_that_wants_to_compress_is_bounded_alike(doors: Doors) -> None:
    address = doors.base_url.replace("http", "ws", 1) + "/ws/chat"
    async with connect(address, additional_headers=doors.headers, compression="deflate") as chat:
        await chat.recv()
        with suppress(ConnectionClosed):
            await chat.send("x" * 16 * MIB)
        assert await closed(chat) == 1009


# --- Malformed --------------------------------------------------------------------------------------------------------


async def test_what_is_no_frame_of_ours_is_told_and_the_socket_stays(doors: Doors) -> None:
    async with doors.socket() as chat:
        bad: list[Any] = [b"\x00\xff", os.urandom(LARGEST), "{", "null", "[" * LARGEST, '{"type": 7}', ""]
        for frame in bad:
            await chat.send(frame)
        assert await errors(chat, len(bad)) == ["invalid_request"] * len(bad)
        await say(chat, type="ask", assistant="guide", text="pump?")
        assert [event async for event in heard(chat)][-1].data["text"] == "Prime it."


async def test_text_that_is_no_text_closes_with_1007(doors: Doors) -> None:
    async with raw(doors) as (reader, writer):
        writer.write(header(0x81, 2) + b"\xc3\x28")
        assert await close_code(reader) == 1007


# --- Too many ---------------------------------------------------------------------------------------------------------


async def test_a_flood_is_told_and_then_ends_with_4429(doors: Doors) -> None:
    async with doors.socket() as chat:

        async def flood() -> None:
            with suppress(ConnectionClosed):
                for _ in range(5000):
                    await chat.send('{"type": "nonsense"}')

        flooding = asyncio.create_task(flood())
        codes = [json.loads(frame)["code"] async for frame in told(chat)]
        await flooding
        assert chat.close_code == 4429
    assert set(codes[:100]) == {"invalid_request"}
    assert codes[-1] == "rate_limited"
    assert codes.count("rate_limited") >= 100


async def test_a_burst_that_ends_leaves_the_socket_open(doors: Doors) -> None:
    async with doors.socket() as chat:
        codes: list[str] = []
        while "rate_limited" not in codes:  # a busy machine needs more of them to be ahead of their pace
            for _ in range(90):
                await chat.send('{"type": "nonsense"}')
            codes += await errors(chat, 90)
        assert set(codes[:100]) == {"invalid_request"}
        await asyncio.sleep(2)
        await say(chat, type="ask", assistant="guide", text="pump?")
        assert [event async for event in heard(chat)][-1].data["text"] == "Prime it."
