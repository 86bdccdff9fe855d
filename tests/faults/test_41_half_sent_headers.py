"""Row 41: a thousand clients that never finish their headers, before a web process and before nginx: nobody notices."""

from __future__ import annotations

import asyncio
import resource
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.deploy.proxy import nginx
from tests.fakes.inference import Reply
from tests.journeys.client import Doors, heard, say
from tests.journeys.conftest import World, model, web_process, world  # noqa: F401 - fixtures among them

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

CROWD = 1000
HALF = b"GET /api/v1/assistants HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


@contextmanager
def few_files() -> Iterator[None]:
    """Start what is started as a shell would, with 1,024 files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))


@pytest.fixture(scope="module", params=["daphne", "uvicorn", "nginx"])
def doors(request: pytest.FixtureRequest, world: World) -> Iterator[Doors]:  # noqa: F811
    if request.param == "nginx" and shutil.which("nginx") is None:
        pytest.skip("needs nginx: apt-get install nginx")
    with ExitStack() as started, pytest.MonkeyPatch.context() as patch:
        if request.param == "nginx":
            patch.setenv("PARLEY_BEHIND_PROXY", "on")
        with few_files():
            address = started.enter_context(web_process("uvicorn" if request.param == "uvicorn" else "daphne"))
            if request.param == "nginx":
                address = started.enter_context(nginx(address.removeprefix("http://"))).url
        yield Doors(address, world.key)


@pytest.fixture
def crowd(doors: Doors) -> Iterator[list[socket.socket]]:
    address = ("127.0.0.1", int(doors.base_url.rpartition(":")[2]))
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.create_connection(address)) for _ in range(CROWD)]
        for connection in sockets:
            connection.sendall(HALF)
        yield sockets


async def ask_by_all_doors(doors: Doors) -> list[str]:
    async def by_socket() -> str:
        async with doors.socket() as chat:
            await say(chat, type="ask", assistant="guide", text="pump?")
            return str([event async for event in heard(chat)][-1].data["text"])

    async def by_stream() -> str:
        async with doors.stream("pump?") as events:
            return str([event async for event in events][-1].data["text"])

    async def by_json() -> str:
        return str((await doors.ask("pump?"))["text"])

    return await asyncio.gather(*(ask() for ask in (by_socket, by_stream, by_json) for _ in range(5)))


async def test_others_are_answered_as_ever(doors: Doors, world: World, crowd: list[socket.socket]) -> None:  # noqa: F811
    world.model.script(Reply(tokens=["Prime", " it."], always=True))
    assert set(await ask_by_all_doors(doors)) == {"Prime it."}
    # Whoever sends the rest in time, which is ten seconds at nginx, is a client like any other.
    with socket.create_connection(crowd[0].getpeername(), timeout=60) as late:
        late.sendall(HALF)
        late.sendall(b"y\r\nAuthorization: Bearer " + doors.key.encode() + b"\r\n\r\n")
        assert late.recv(4096).startswith(b"HTTP/1.1 200 ")
    for _ in range(2):
        assert set(await ask_by_all_doors(doors)) == {"Prime it."}
