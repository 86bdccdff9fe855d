"""A PostgreSQL and a Redis that can be stopped, crashed, hung and limited, and come back at the same address with what
they had acknowledged: they run as `make up` runs them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from local import postgres, redis_server
from local.home import free_port
from local.processes import spawn, tail
from tests.environment import HOME, PASSWORDS, REDIS_PASSWORD, seed

# Written by the rows of this catalogue, and emptied before each.
WRITTEN = (
    "access_idempotencykey",
    "conversations_idempotencykey",
    "conversations_message",
    "conversations_turn",
    "conversations_conversation",
    "conversations_replica",
    "usage_usagerecord",
)


class Store:
    """A server in a process of its own. Start it from the main thread: it ends with the thread that started it."""

    name = ""
    user: str | None = None
    on_orphaned = signal.SIGTERM

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.log = home.with_suffix(".log")
        self.process: subprocess.Popen[str] | None = None

    def command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    async def start(self) -> None:
        """Come (back) at the same address, and wait until it answers."""
        self.process = spawn(self.command(), log=self.log, env=os.environ, user=self.user, on_orphaned=self.on_orphaned)
        async with asyncio.timeout(90):
            while not await asyncio.to_thread(self.answers):
                assert self.process.poll() is None, f"{self.name} ended.{tail(self.log)}"
                await asyncio.sleep(0.05)

    async def end(self, signum: int) -> None:
        """Send the signal and wait for the process to end."""
        assert self.process is not None
        self.process.send_signal(signum)
        async with asyncio.timeout(90):
            while self.process.poll() is None:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.02)


class Postgres(Store):
    name = "postgres"
    user = postgres.system_user()
    on_orphaned = signal.SIGQUIT

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.settings: dict[str, str] = {}
        HOME.chmod(0o711)  # it runs as another user when we are root
        subprocess.run(["cp", "--archive", str(seed()), str(home)], check=True)

    def command(self) -> Sequence[str | Path]:
        limits = [f"--{name}={value}" for name, value in self.settings.items()]
        return [*postgres.command(self.home, self.port), *limits]

    def answers(self) -> bool:
        return postgres.answers(self.port, PASSWORDS[postgres.SUPERUSER])

    def url(self, role: str, port: int | None = None) -> str:
        return f"postgres://{role}:{PASSWORDS[role]}@127.0.0.1:{port or self.port}/{postgres.DATABASE}"

    async def crash(self) -> None:
        """End as a power cut would have it: sessions are cut, and what was committed is replayed at the next start."""
        await self.end(signal.SIGQUIT)

    async def limit(self, **settings: str) -> None:
        """Start anew with these settings, or without any."""
        self.settings = settings
        await self.end(signal.SIGINT)
        await self.start()

    def superuser(self) -> Any:
        """A connection that no row security applies to, in autocommit."""
        return postgres.connect(self.port, PASSWORDS[postgres.SUPERUSER], postgres.DATABASE)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self.superuser() as connection:
            found: list[tuple[Any, ...]] = connection.execute(query, values).fetchall()
            return found

    def empty(self) -> None:
        with self.superuser() as connection:
            connection.execute("SET session_replication_role = replica")
            there = {name for (name,) in connection.execute("SELECT tablename FROM pg_tables").fetchall()}
            for table in WRITTEN:
                if table in there:
                    connection.execute(f'DELETE FROM "{table}"')


class Redis(Store):
    name = "redis"

    def command(self) -> Sequence[str | Path]:
        return redis_server.command(self.home, self.port, REDIS_PASSWORD)

    def answers(self) -> bool:
        return redis_server.answers(self.port, REDIS_PASSWORD)

    def client(self) -> redis.Redis:
        return redis_server.client(self.port, REDIS_PASSWORD)

    def url(self, database: int = 0, port: int | None = None) -> str:
        return f"redis://:{REDIS_PASSWORD}@127.0.0.1:{port or self.port}/{database}"

    def set(self, name: str, value: str) -> None:
        with self.client() as client:
            client.config_set(name, value)

    def forget(self) -> None:
        with self.client() as client:
            client.flushall()

    def hang(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


class Stores:
    """Both. environment: by what a process of the product finds them."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o711)
        self.postgres = Postgres(home / "postgres")
        self.redis = Redis(home / "redis")

    async def start(self) -> None:
        await asyncio.gather(self.postgres.start(), self.redis.start())

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.postgres.url(postgres.APP),
            "OWNER_DATABASE_URL": self.postgres.url(postgres.OWNER),
            "OPERATOR_DATABASE_URL": self.postgres.url(postgres.OPERATOR),
            "REDIS_URL": self.redis.url(0),
            "CACHE_URL": self.redis.url(1),
        }

    async def make_good(self) -> None:
        """Undo whatever a row did, and forget what it wrote."""
        if self.postgres.process is None or self.postgres.process.poll() is not None:
            self.postgres.settings = {}
            await self.postgres.start()
        elif self.postgres.settings:
            await self.postgres.limit()
        if self.redis.process is None or self.redis.process.poll() is not None:
            await self.redis.start()
        self.redis.wake()
        self.redis.set("maxmemory", "0")
        self.redis.set("maxclients", "10000")
        self.postgres.empty()
        self.redis.forget()

    async def stop(self) -> None:
        self.redis.wake()
        await asyncio.gather(self.postgres.end(signal.SIGQUIT), self.redis.end(signal.SIGKILL))
