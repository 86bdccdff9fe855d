"""What the bus promises while Redis is there, and while it is not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from apps.edge import bus
from local import redis_server
from local.home import free_port
from local.processes import spawn, stop, wait_until

PASSWORD = "redis"


class Server:
    """A Redis of the test's own, which can be away."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        self.process: subprocess.Popen[str]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        log = self.directory.parent / "redis.log"
        command = redis_server.command(self.directory, self.port, PASSWORD, durable=False)
        self.process = spawn(command, log=log, env=os.environ)
        wait_until(lambda: redis_server.answers(self.port, PASSWORD), name="redis", process=self.process, log=log)

    def stop(self) -> None:
        stop(self.process)


@contextmanager
def running(directory: Path) -> Iterator[Server]:
    server = Server(directory)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(bus, "BACKOFF", (0.05,))
    monkeypatch.setattr(bus, "_handlers", {})
    bus._publisher.cache_clear()
    with running(tmp_path / "redis") as server:
        settings.REDIS_URL = server.url
        yield server
    bus._publisher.cache_clear()


class Ear:
    """A subscriber that remembers."""

    def __init__(self, topic: str) -> None:
        self.heard: list[Any] = []
        bus.subscribe(topic, self.heard.append)
        bus.listen()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what it waits for comes from another process
            await asyncio.sleep(0.01)


async def listening(server: Server) -> None:
    with redis_server.client(server.port, PASSWORD) as client:
        await until(lambda: client.pubsub_numsub(bus.CHANNEL) == [(bus.CHANNEL.encode(), 1)])


def say(server: Server, topic: str, message: Any) -> None:
    """As another process does."""
    with redis_server.client(server.port, PASSWORD) as client:
        client.publish(bus.CHANNEL, orjson.dumps(["another", topic, message]))


async def test_whoever_publishes_hears_it_once_and_at_once(server: Server) -> None:
    ear = Ear("ended")
    await listening(server)
    assert await asyncio.to_thread(bus.publish, "ended", 1)
    assert ear.heard == [1]
    await asyncio.to_thread(say, server, "ended", 2)
    await until(lambda: len(ear.heard) > 1)
    assert ear.heard == [1, 2]


async def test_everybody_hears_their_own_topic(server: Server) -> None:
    first, second, other = Ear("ended"), Ear("ended"), Ear("woken")
    await listening(server)
    await asyncio.to_thread(say, server, "ended", ["key:1", "key:2"])
    await until(lambda: bool(first.heard and second.heard))
    assert first.heard == second.heard == [["key:1", "key:2"]]
    assert other.heard == []


async def test_a_lost_connection_is_made_again(server: Server) -> None:
    ear = Ear("ended")
    await listening(server)
    with redis_server.client(server.port, PASSWORD) as client, capture_logs() as told:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: bool(told))
    await listening(server)
    await asyncio.to_thread(say, server, "ended", 7)
    await until(lambda: ear.heard == [7])


async def test_redis_may_go_and_come_back(server: Server) -> None:
    ear = Ear("ended")
    await listening(server)
    with capture_logs() as told:
        await asyncio.to_thread(server.stop)
        assert await asyncio.to_thread(bus.publish, "ended", 1) is False
        await asyncio.sleep(0.5)  # several attempts
        await asyncio.to_thread(server.start)
        await listening(server)
        await asyncio.to_thread(say, server, "ended", 2)
        await until(lambda: ear.heard == [1, 2])
        await until(lambda: any(line["event"] == "bus.restored" for line in told))
    assert sorted(line["event"] for line in told) == ["bus.lost", "bus.not_published", "bus.restored"]


async def test_a_redis_that_falls_silent_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(bus, "SECONDS", 0.5)
    Ear("ended")
    await listening(server)
    os.kill(server.process.pid, signal.SIGSTOP)  # it keeps its connections and answers nobody
    with capture_logs() as told:
        await until(lambda: any(line["event"] == "bus.lost" for line in told))
    os.kill(server.process.pid, signal.SIGCONT)
    await listening(server)


async def test_silence_alone_loses_no_connection(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "QUIET_SECONDS", 0.05)
    Ear("ended")
    await listening(server)
    with capture_logs() as told:
        await asyncio.sleep(0.5)
    assert told == []
