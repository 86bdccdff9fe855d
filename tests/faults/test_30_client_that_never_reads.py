"""Row 30: a client that never reads is let go at 256 KiB and can come back; its turn and the others notice nothing."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from apps.assistants.models import Assistant
from apps.inference.models import Endpoint
from bench.client import text_frame, upgrade
from tests.deploy.test_nginx_journey import listening
from tests.fakes.inference import Reply
from tests.journeys.client import Doors, Event, say
from tests.journeys.conftest import World, model, web_process, world  # noqa: F401 - fixtures among them

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

# The longest answer that an assistant gives, in the longest characters.
TOKENS = [f"{n:04}{'🚰' * 12}" for n in range(8192)]
ANSWER = Reply(tokens=TOKENS, always=True)
TURNS = 6  # 5 MiB of frames, which one socket follows
SILENT = 30
STALL_SECONDS = 10  # apps/edge/backpressure.py
TOO_MUCH = 96 * 1024  # the piece of a stream, or the frames of as many turns, that came last
A_CLIENT = 3 * 2**20  # resident: what waits for it, and all else that a socket and six readers take; not the 5 MiB

Attach = Callable[[Doors, list[str]], Awaitable[socket.socket]]


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def doors(request: pytest.FixtureRequest, world: World, django_db_blocker: Any) -> Iterator[Doors]:  # noqa: F811
    with django_db_blocker.unblock():
        Endpoint.objects.update(context_length=32_768)
        Assistant.objects.update(max_tokens=len(TOKENS))
    with web_process(request.param) as address:
        yield Doors(address, world.key)


async def asked(doors: Doors) -> list[Event]:
    async with doors.stream("pump?") as events:
        return [event async for event in events]


_OPEN: list[socket.socket] = []
_TOLD: dict[Path, int] = {}


@pytest.fixture(autouse=True)
def closed_at_last() -> Iterator[None]:
    yield
    while _OPEN:
        _OPEN.pop().close()


async def silent(doors: Doors, request: bytes, *frames: dict[str, str]) -> socket.socket:
    """A connection that sends this and never reads."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    _OPEN.append(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await loop.sock_connect(connection, ("127.0.0.1", int(doors.base_url.rpartition(":")[2])))
    await loop.sock_sendall(connection, request)
    if frames:
        await asyncio.sleep(1)  # Daphne takes frames that come with the handshake for its body
        await loop.sock_sendall(connection, b"".join(text_frame(frame) for frame in frames))
    return connection


async def over_sse(doors: Doors, turns: list[str]) -> socket.socket:
    path = f"/api/v1/turns/{turns[0]}/events"
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {doors.key}\r\n\r\n"
    return await silent(doors, head.encode())


async def over_ws(doors: Doors, turns: list[str]) -> socket.socket:
    head = upgrade(f"Authorization: Bearer {doors.key}\r\n")
    return await silent(doors, head, *({"type": "resume", "turn": turn} for turn in turns))


def waited(process: psutil.Process) -> list[int]:
    """Bytes that waited for each client that this process let go since it was asked last."""
    log = Path(f"/proc/{process.pid}/fd/1").readlink()
    told = [line for line in log.read_text(encoding="utf-8").splitlines() if '"client.let_go"' in line]
    new, _TOLD[log] = told[_TOLD.get(log, 0) :], len(told)
    return [json.loads(line)["waiting"] for line in new]


async def held(process: psutil.Process, clients: list[socket.socket]) -> set[int]:
    """The ports of those clients whose connection the process still has, or has yet to accept: whose it is then,
    nobody says."""
    ports = {client.getsockname()[1] for client in clients}
    connections = await asyncio.to_thread(psutil.net_connections, "tcp4")
    mine = [one for one in connections if one.raddr and one.status == psutil.CONN_ESTABLISHED]
    return ports & {one.raddr.port for one in mine if one.pid in (process.pid, None) and one.laddr.port not in ports}


async def let_go(process: psutil.Process, clients: list[socket.socket]) -> int:
    """Wait until the process has closed them all; gives its largest resident size meanwhile."""
    largest = 0
    async with asyncio.timeout(STALL_SECONDS + 60):
        while await held(process, clients):
            largest = max(largest, process.memory_info().rss)
            await asyncio.sleep(0.2)
    return largest


def text_of(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.type == "token")


@pytest.mark.parametrize("attach", [over_sse, over_ws])
async def test_silent_clients_are_let_go_at_256_kib(doors: Doors, world: World, attach: Attach) -> None:  # noqa: F811
    world.model.script(ANSWER)
    answers = await asyncio.gather(*(asked(doors) for _ in range(TURNS)))
    turns = [events[0].data["turn"] for events in answers]
    process = listening(doors.base_url.removeprefix("http://"))
    before = process.memory_info().rss
    clients = await asyncio.gather(*(attach(doors, turns) for _ in range(SILENT)))
    largest = await let_go(process, clients)
    told = waited(process)
    assert len(told) == SILENT
    assert all(2**18 < waiting < 2**18 + TOO_MUCH for waiting in told)
    if attach is over_ws:
        assert largest - before < SILENT * A_CLIENT
    # Whoever comes back gets all the rest.
    first = answers[0]
    async with doors.follow(turns[0], first[4].cursor) as events:
        rest = [event async for event in events]
    assert [event.cursor for event in rest] == [event.cursor for event in first[5:]]
    assert text_of(first[:5]) + text_of(rest) == "".join(TOKENS)


async def test_a_silent_client_that_goes_on_sending_is_not_listened_to(doors: Doors, world: World) -> None:  # noqa: F811
    """Each of its frames gets an answer, which has to wait. So its frames have to wait, too, on its own side."""
    world.model.script(ANSWER)
    turn = (await asked(doors))[0].data["turn"]
    client = await over_ws(doors, [turn])
    process = listening(doors.base_url.removeprefix("http://"))
    before = process.memory_info().rss
    binary = b"\x82\xfe\xff\xff\0\0\0\0" + bytes(2**16 - 1)
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(client, binary * 1000))
    largest = await let_go(process, [client])
    assert largest - before < 20 * 2**20
    with pytest.raises(ConnectionError):
        await sending


async def test_it_slows_neither_its_turn_nor_another_reader(doors: Doors, world: World) -> None:  # noqa: F811
    """The silent one asked, over a socket; another follows, live."""
    world.model.script(Reply(tokens=TOKENS, delay=0.001, always=True))
    async with doors.stream("pump?") as events:
        seen = [await anext(events)]
        clients = [await over_ws(doors, [seen[0].data["turn"]]), await over_sse(doors, [seen[0].data["turn"]])]
        seen += [event async for event in events]
    assert [event.cursor for event in seen] == [f"1-{n}" for n in range(1, len(seen) + 1)]
    assert text_of(seen) == seen[-1].data["text"] == "".join(TOKENS)
    await let_go(listening(doors.base_url.removeprefix("http://")), clients)


async def test_a_client_that_reads_slowly_only_lags(doors: Doors, world: World) -> None:  # noqa: F811
    """All the time more waits for it than is allowed to one that does not read."""
    world.model.script(ANSWER)
    answers = await asyncio.gather(*(asked(doors) for _ in range(TURNS)))
    expected = {events[0].data["turn"]: events for events in answers}
    pause = 1.5 * STALL_SECONDS / sum(map(len, answers))
    seen: dict[str, list[Event]] = {turn: [] for turn in expected}
    async with doors.socket() as chat:
        for turn in expected:
            await say(chat, type="resume", turn=turn)
        while not all(events and events[-1].type == "turn.finished" for events in seen.values()):
            frame = json.loads(await chat.recv())
            seen[frame["turn"]].append(Event(frame["id"], frame["type"], frame))
            await asyncio.sleep(pause)
    for turn, events in seen.items():
        assert [event.cursor for event in events] == [event.cursor for event in expected[turn]]
        assert text_of(events) == "".join(TOKENS)
