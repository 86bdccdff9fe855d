"""Where the local stack keeps its state, and the secrets and ports that it makes up once and then keeps."""

from __future__ import annotations

import base64
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHAT_MODEL = "smollm2-135m-instruct"
CHAT_CONTEXT = 4096  # tokens a slot: the server shares 8192 between two
EMBEDDING_MODEL = "multilingual-e5-small"
EMBEDDING_DIMENSION = 384

SECRETS = (
    "SECRET_KEY",
    "PARLEY_KEY_PEPPER",
    "PARLEY_ENCRYPTION_KEYS",
    "LOCAL_SUPERUSER_PASSWORD",
    "LOCAL_OWNER_PASSWORD",
    "LOCAL_APP_PASSWORD",
    "LOCAL_REDIS_PASSWORD",
)
# Set anew at each start, so that nothing is lost with it; a home made by an older Parley has none.
REPLACED = ("LOCAL_OPERATOR_PASSWORD",)
# Ports that no system gives to connections that go out: from 32768 on Linux does, and from 49152 others do.
QUIET = range(20_000, 32_000)
PORTS = ("LOCAL_POSTGRES_PORT", "LOCAL_REDIS_PORT", "LOCAL_CHAT_PORT", "LOCAL_EMBEDDING_PORT")


class LocalError(Exception):
    """One sentence for the person at the terminal: what is wrong and what to do about it."""


@dataclass(frozen=True)
class Home:
    """The directory that PARLEY_HOME names, `var/` by default."""

    path: Path

    @property
    def env_file(self) -> Path:
        return self.path / "env"

    @property
    def run(self) -> Path:
        """What only matters while the stack runs."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        return self.path / "log"

    @property
    def ready(self) -> Path:
        """Exists while the product answers."""
        return self.run / "ready"

    @property
    def demo(self) -> Path:
        return self.path / "demo.json"


def open_home(path: Path) -> Home:
    """Make the directories. Raises LocalError where that is impossible."""
    home = Home(path.absolute())
    try:
        # Postgres runs as another user when we are root, so it must be able to pass through.
        for directory in (home.path, home.run, home.logs):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        probe = home.run / "probe"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise LocalError(
            f"{home.path} cannot hold Parley's data ({error.strerror}: {error.filename}). "
            "Make it a writable directory, or name another with PARLEY_HOME=…."
        ) from error
    return home


def environment(home: Home, port: int) -> dict[str, str]:
    """What every process of the stack finds in its environment; the same is written to var/env for manage.py.

    Raises LocalError when the file was damaged: without its passwords the data beside it cannot be opened.
    """
    known = _read(home.env_file)
    if home.env_file.exists() or (home.path / "postgres").exists():
        missing = [name for name in SECRETS if not known.get(name)]
        if missing:
            raise LocalError(
                f"{home.env_file} has lost {', '.join(missing)}, without which the data beside it cannot be opened. "
                f"Restore the file, or delete {home.path} to start afresh."
            )
    kept = {name: known.get(name) or _secret(name) for name in (*SECRETS, *REPLACED)} | _ports(known)
    values = kept | _derived(kept, home, port)
    _write(home.env_file, values)
    return values


def _derived(kept: Mapping[str, str], home: Home, port: int) -> dict[str, str]:
    postgres = f"127.0.0.1:{kept['LOCAL_POSTGRES_PORT']}/parley"
    redis = f"redis://:{kept['LOCAL_REDIS_PASSWORD']}@127.0.0.1:{kept['LOCAL_REDIS_PORT']}"
    return {
        "PARLEY_ENV": "local",
        "PARLEY_HOME": str(home.path),
        "PARLEY_BASE_URL": f"http://127.0.0.1:{port}",
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "DATABASE_URL": f"postgres://parley_app:{kept['LOCAL_APP_PASSWORD']}@{postgres}",
        "OWNER_DATABASE_URL": f"postgres://parley_owner:{kept['LOCAL_OWNER_PASSWORD']}@{postgres}",
        "OPERATOR_DATABASE_URL": f"postgres://parley_operator:{kept['LOCAL_OPERATOR_PASSWORD']}@{postgres}",
        "REDIS_URL": f"{redis}/0",
        "CACHE_URL": f"{redis}/1",
        # No load balancer has to notice, and `make down` should not wait for an answer.
        "PARLEY_DRAIN_GRACE_SECONDS": "0",
        "PARLEY_DRAIN_SECONDS": "3",
        "DEMO_CHAT_URL": f"http://127.0.0.1:{kept['LOCAL_CHAT_PORT']}",
        "DEMO_CHAT_MODEL": CHAT_MODEL,
        "DEMO_CHAT_CONTEXT": str(CHAT_CONTEXT),
        "DEMO_EMBEDDING_URL": f"http://127.0.0.1:{kept['LOCAL_EMBEDDING_PORT']}",
        "DEMO_EMBEDDING_MODEL": EMBEDDING_MODEL,
        "DEMO_EMBEDDING_DIMENSION": str(EMBEDDING_DIMENSION),
    }


def _secret(name: str) -> str:
    if name == "PARLEY_ENCRYPTION_KEYS":  # one Fernet key: 32 bytes, base64url with its padding
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(48 if name.startswith(("SECRET", "PARLEY")) else 24)


def _ports(known: Mapping[str, str]) -> dict[str, str]:
    """The stand-ins' ports: those of last time where they are still free."""
    chosen: dict[str, str] = {}
    for name in PORTS:
        last = known.get(name, "")
        if last.isdecimal() and port_is_free(int(last)) and last not in chosen.values():
            chosen[name] = last
        else:
            chosen[name] = str(free_port())
    return chosen


def free_port() -> int:
    """One that is free now, and that no connection of another program takes before a server listens there."""
    while not port_is_free(port := secrets.choice(QUIET)):
        pass
    return port


def port_is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except (OSError, OverflowError):
        return False
    return True


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(
            f"{path} cannot be read ({error}). Restore it, or delete {path.parent} to start afresh."
        ) from error
    pairs = (line.partition("=") for line in lines if line.strip() and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _write(path: Path, values: Mapping[str, str]) -> None:
    """Replace the file at once, so that a crash cannot leave half of the secrets."""
    text = "# Written by `make up`: manage.py reads it. Secrets of this checkout alone; never commit or copy them.\n"
    text += "".join(f"{name}={value}\n" for name, value in values.items())
    beside = path.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
