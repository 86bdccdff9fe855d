"""nginx in front of two live web processes: what streams through it, and what outlives one of them."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import psutil
import pytest
from axes.models import AccessAttempt
from websockets.asyncio.client import connect

from tests.deploy.proxy import Proxy, nginx
from tests.environment import HOME, ROOT
from tests.fakes.inference import Reply
from tests.journeys.client import Doors, Event, heard, say
from tests.journeys.conftest import World, model, web_process, world  # noqa: F401 - fixtures among them

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

QUESTION = "What must be done before the first brew?"
HEADER_SECONDS = 10  # client_header_timeout


@pytest.fixture(scope="module", autouse=True)
def static_files() -> None:
    HOME.chmod(0o711)
    subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--noinput"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def proxy(server: str, world: World, static_files: None) -> Iterator[Proxy]:  # noqa: F811
    with ExitStack() as started, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARLEY_BEHIND_PROXY", "on")
        webs = [started.enter_context(web_process(server)) for _ in range(2)]
        yield started.enter_context(nginx(*(web.removeprefix("http://") for web in webs)))


@pytest.fixture
def doors(proxy: Proxy, world: World) -> Doors:  # noqa: F811
    return Doors(proxy.url, world.key)


@pytest.fixture(scope="module", autouse=True)
def half_sent(proxy: Proxy) -> Iterator[list[socket.socket]]:
    """Clients that never finish their headers, there while all else is tested."""
    address = ("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    sockets = [socket.create_connection(address) for _ in range(200)]
    for connection in sockets:
        connection.sendall(b"GET /api/v1/assistants HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
    yield sockets
    for connection in sockets:
        connection.close()


async def first_token(events: Any) -> list[Event]:
    seen: list[Event] = []
    async for event in events:
        seen.append(event)
        if event.type == "token":
            break
    return seen


# The model says one word and then nothing more. So whoever hears that word before the turn ends hears it through a
# proxy that holds nothing back; and the turn ends only because they then ask for its end.
HALTING = Reply(tokens=["Prime", " the", " pump"], hang_after=1, always=True)


async def test_tokens_arrive_over_sse_while_the_model_still_speaks(doors: Doors, world: World) -> None:  # noqa: F811
    world.model.script(HALTING)
    async with doors.stream(QUESTION) as events, doors.http() as http:
        seen = await first_token(events)
        turn_id = seen[0].data["turn"]
        async with doors.follow(turn_id, "1-0") as followed:
            assert (await first_token(followed))[-1].data["text"] == "Prime"
        (await http.post(f"/turns/{turn_id}/stop")).raise_for_status()
        rest = [event async for event in events]
    assert [event.data["text"] for event in [*seen, *rest] if event.type == "token"] == ["Prime"]
    assert (rest[-1].data["state"], rest[-1].data["text"]) == ("stopped", "Prime")


async def test_streams_are_neither_buffered_nor_compressed(doors: Doors, world: World) -> None:  # noqa: F811
    world.model.script(Reply(tokens=["word "] * 1000, always=True))  # more than is too small to compress
    asked = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, br"}
    path = f"/conversations/{await doors.conversation()}/turns"
    async with (
        doors.http() as http,
        http.stream("POST", path, json={"text": QUESTION}, headers=asked) as answer,
    ):
        lines = [line async for line in answer.raise_for_status().aiter_lines()]
    assert lines[:2] == ["retry: 2000", "id: 1-1"]
    assert "Content-Encoding" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-cache"
    # It is nginx's own, which obeys it and does not pass it on.
    assert "X-Accel-Buffering" not in answer.headers


async def test_tokens_arrive_over_a_socket_while_the_model_still_speaks(doors: Doors, world: World) -> None:  # noqa: F811
    world.model.script(HALTING)
    async with doors.socket() as socket_:
        await say(socket_, type="ask", assistant="guide", text=QUESTION)
        seen = await first_token(heard(socket_))
        await say(socket_, type="stop", turn=seen[0].data["turn"])
        rest = [event async for event in heard(socket_)]
    assert (rest[-1].data["state"], rest[-1].data["text"]) == ("stopped", "Prime")


async def test_a_browser_resumes_and_stops_what_it_asked(doors: Doors, world: World) -> None:  # noqa: F811
    """Over two sockets, which may lead to two processes."""
    world.model.script(HALTING)
    address = doors.base_url.replace("http", "ws", 1) + "/ws/chat"
    async with connect(address) as first, connect(address) as second:
        for socket_ in (first, second):
            await say(socket_, type="auth", key=doors.key)
            assert json.loads(await socket_.recv())["type"] == "ready"
        await say(first, type="ask", assistant="guide", text=QUESTION)
        turn_id = (await first_token(heard(first)))[0].data["turn"]
        await say(second, type="resume", turn=turn_id, after="1-0")
        assert (await first_token(heard(second)))[-1].data["text"] == "Prime"
        await say(second, type="stop", turn=turn_id)
        assert [event async for event in heard(second)][-1].data["state"] == "stopped"


async def test_openai_clients_stream_and_their_leaving_reaches_the_model(proxy: Proxy, world: World) -> None:  # noqa: F811
    world.model.script(HALTING)
    question = {"model": "guide", "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
    headers = {"Authorization": f"Bearer {world.key}"}
    async with (
        httpx.AsyncClient(base_url=proxy.url, headers=headers, timeout=30) as client,
        client.stream("POST", "/v1/chat/completions", json=question) as answer,
    ):
        async for line in answer.raise_for_status().aiter_lines():
            if "Prime" in line:
                break
    async with asyncio.timeout(60):
        # The fake lives in another process, which sets no events here.
        while world.model.requests("/v1/chat/completions")[-1]["disconnected_at"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_the_whole_answer_comes_as_json_too(doors: Doors, world: World) -> None:  # noqa: F811
    world.model.script(Reply(tokens=["Prime", " it."], always=True))
    assert (await doors.ask(QUESTION))["text"] == "Prime it."


def test_an_upload_passes_and_one_beyond_the_limit_is_refused_in_our_shape(proxy: Proxy, world: World) -> None:  # noqa: F811
    headers = {"Authorization": f"Bearer {world.key}", "X-Request-Id": "upload-4711"}
    with httpx.Client(base_url=f"{proxy.url}/api/v1", headers=headers, timeout=60) as client:

        def upload(mib: int) -> httpx.Response:
            file = {"file": ("manual.txt", b"Prime the pump.\n" * (mib << 16), "text/plain")}
            return client.post("/documents", data={"collection": "manuals"}, files=file)

        fits, too_large = upload(5), upload(60)
    assert fits.is_success, fits.text
    assert fits.json()["size"] == 5 * 2**20
    assert (too_large.status_code, too_large.json()["code"]) == (413, "payload_too_large")
    assert too_large.json()["request_id"] == too_large.headers["X-Request-Id"] == "upload-4711"


def test_the_request_id_makes_the_round(proxy: Proxy) -> None:
    with httpx.Client(base_url=proxy.url) as client:
        kept = client.get("/api/v1/assistants", headers={"X-Request-Id": "order-4711"})
        assert kept.headers.get_list("X-Request-Id") == ["order-4711"] == [kept.json()["request_id"]]
        made = client.get("/api/v1/assistants", headers={"X-Request-Id": "not sane"})
        assert made.json()["request_id"] == made.headers["X-Request-Id"]
    until = time.monotonic() + 60  # nginx writes its log after the answer
    while made.headers["X-Request-Id"] not in {line["request_id"] for line in proxy.log() if line["status"] == 401}:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_pages_files_are_served_by_nginx_and_kept_for_good(proxy: Proxy) -> None:
    with httpx.Client(base_url=proxy.url) as client:
        page = client.get("/admin/login/").text
        named = [part for part in page.split('"') if part.startswith("/static/")]
        assert len(named) > 5
        for address in named:
            file = client.get(address)
            assert (file.status_code, "immutable" in file.headers["Cache-Control"]) == (200, True), address
    assert all(not line["upstream"] for line in proxy.log() if line["path"].startswith("/static/"))


def test_an_invented_address_does_not_count(proxy: Proxy, django_db_blocker: Any) -> None:
    with httpx.Client(base_url=proxy.url) as client:
        client.get("/admin/login/")
        form = {"username": "nobody@acme.example", "password": "wrong"}
        form["csrfmiddlewaretoken"] = client.cookies["csrftoken"]
        headers = {"X-Forwarded-For": "198.51.100.7", "Forwarded": "for=198.51.100.7", "X-Real-Ip": "198.51.100.7"}
        assert client.post("/admin/login/", data=form, headers=headers).status_code == 200
    with django_db_blocker.unblock():
        assert set(AccessAttempt.objects.values_list("ip_address", flat=True)) == {"127.0.0.1"}


async def test_when_a_process_dies_the_next_requests_are_answered_by_the_other(server: str, world: World) -> None:  # noqa: F811
    world.model.script(Reply(tokens=["Prime", " it."], always=True))
    with ExitStack() as started, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARLEY_BEHIND_PROXY", "on")
        webs = [started.enter_context(web_process(server)).removeprefix("http://") for _ in range(2)]
        proxy = started.enter_context(nginx(*webs))
        doors = Doors(proxy.url, world.key)
        assert (await doors.ask(QUESTION))["text"] == "Prime it."
        listening(webs[0]).kill()
        for _ in range(5):
            assert (await doors.ask(QUESTION))["text"] == "Prime it."
        async with doors.socket() as socket_:
            await say(socket_, type="ask", assistant="guide", text=QUESTION)
            assert [event async for event in heard(socket_)][-1].data["text"] == "Prime it."
        assert {line["status"] for line in proxy.log()} <= {101, 200, 201}


def listening(address: str) -> psutil.Process:
    """The process that listens at host:port."""
    port = int(address.partition(":")[2])
    [pid] = {
        socket_.pid
        for socket_ in psutil.net_connections("tcp4")
        if socket_.laddr.port == port and socket_.status == psutil.CONN_LISTEN
    }
    return psutil.Process(pid)


def test_clients_that_never_finish_their_headers_are_let_go(half_sent: list[socket.socket]) -> None:
    deadline = time.monotonic() + HEADER_SECONDS + 5
    for connection in half_sent:
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        with suppress(ConnectionResetError):
            assert connection.recv(1024) == b""
