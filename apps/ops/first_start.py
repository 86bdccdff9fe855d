"""What `manage.py init` does before there are settings: it asks for them, tries each, and makes up the secrets.

The command itself (management/commands/init.py) goes on from there, and has `write` keep what proved right. Nothing
here may need Django's settings, nor models.
"""

from __future__ import annotations

import base64
import getpass
import os
import re
import secrets
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import environ
import psycopg
import redis

SECONDS = 5
ENV_FILE = Path(__file__).resolve().parents[2] / ".env"
SECRETS: dict[str, Callable[[], str]] = {
    "SECRET_KEY": lambda: secrets.token_urlsafe(48),
    "PARLEY_KEY_PEPPER": lambda: secrets.token_urlsafe(48),
    "PARLEY_ENCRYPTION_KEYS": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
}
made_up: list[str] = []  # the secrets that nobody gave
REQUIRED = ("ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL", *SECRETS)
# What the file holds, in this order, of what is set.
KEPT = (
    "PARLEY_ENV",
    "PARLEY_HOME",
    "ALLOWED_HOSTS",
    "PARLEY_BASE_URL",
    "PARLEY_BEHIND_PROXY",
    "DATABASE_URL",
    "OWNER_DATABASE_URL",
    "OPERATOR_DATABASE_URL",
    "PARLEY_SEARCH_ROLE",
    "REDIS_URL",
    "CACHE_URL",
    "CELERY_BROKER_URL",
    "EMAIL_URL",
    "DEFAULT_FROM_EMAIL",
    "PARLEY_PRIVATE_ENDPOINT_HOSTS",
    *SECRETS,
)
HEADER = "# Written by `manage.py init`. It holds secrets: keep a copy in a safe place, and never commit it.\n"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--no-input", action="store_true", help="ask nothing: take everything from the environment")
    parser.add_argument("--file", type=Path, default=ENV_FILE, help="where the settings are written")
    parser.add_argument("--no-file", action="store_true", help="write none: the environment stays where settings are")
    parser.add_argument(
        "--force", action="store_true", help="replace the file; what it holds is kept, and the old one as .env.old"
    )


def prepare(arguments: list[str], *, read_files: Callable[[Path], None]) -> None:
    """Leave an environment in which the settings load, or stop with a sentence that says what is missing or wrong.

    read_files: takes from the file what the environment does not set.
    """
    parser = ArgumentParser(prog="manage.py init", description="Set Parley up in production: settings, tables, people.")
    add_arguments(parser)
    known, _django_s = parser.parse_known_args(arguments)
    os.environ.setdefault("PARLEY_ENV", "production")
    try:
        read_files(known.file)
        if not known.no_file and not known.force:
            _check_file(known.file)
        asker = Asker(asks=not known.no_input)
        _settle_all(asker)
    except (EOFError, KeyboardInterrupt):
        stop("the answers ended. Nothing was written.")


def stop(sentence: str) -> NoReturn:
    sys.exit(f"Parley cannot be set up: {sentence}")


class Asker:
    """Takes answers from the environment, and asks a person for what it lacks, where there is one."""

    def __init__(self, *, asks: bool) -> None:
        self.asks = asks

    def settle(
        self,
        name: str,
        question: str,
        *,
        check: Callable[[str], str] = lambda _: "",
        default: str = "",
        optional: bool = False,
        hidden: bool = False,
    ) -> str:
        """Have the variable `name` hold an answer for which `check` has no complaint; empty only if `optional`."""
        while True:
            given = os.environ.get(name, "").strip()
            value = given or self._ask(name, question, default, optional=optional, hidden=hidden)
            wrong = check(value) if value else "" if optional else "An answer is needed."
            if not wrong:
                if value:
                    os.environ[name] = value
                return value
            if not self.asks:
                stop(f"{name}: {wrong}")
            say(f"  {name}: {wrong}")
            os.environ.pop(name, None)

    def _ask(self, name: str, question: str, default: str, *, optional: bool, hidden: bool) -> str:
        if not self.asks:
            if default or optional:
                return default
            stop(f"{name} is not set. {question}")
        hint = f" [{default}]" if default else " (empty for none)" if optional else ""
        read = getpass.getpass if hidden else input
        return read(f"{question}{hint}: ").strip() or default


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _settle_all(asker: Asker) -> None:
    if asker.asks:
        say(
            "This asks for what Parley needs in production, and tries each answer. Ctrl-C leaves things as they were.\n"
        )
    asker.settle("ALLOWED_HOSTS", "The domain under which people reach Parley, such as chat.acme.com", check=_host)
    asker.settle(
        "PARLEY_BEHIND_PROXY", "Is it behind a proxy that speaks TLS, such as the nginx of deploy/", default="on"
    )
    asker.settle(
        "DATABASE_URL", "PostgreSQL as the product's restricted role: postgres://user:password@host/db", check=_postgres
    )
    asker.settle(
        "OWNER_DATABASE_URL",
        "The same database as the role that owns the tables",
        check=_owner,
        optional=not asker.asks,
    )
    asker.settle(
        "OPERATOR_DATABASE_URL",
        "The same database as the role of operators, which reads all tenants' rows",
        check=_postgres,
        optional=True,
    )
    asker.settle("REDIS_URL", "Redis: redis://:password@host:6379/0", check=_redis)
    asker.settle("EMAIL_URL", "The mail server: smtp+tls://user:password@host:587", optional=True)
    for name, make in SECRETS.items():
        if not os.environ.get(name):
            os.environ[name] = make()
            made_up.append(name)


# --- Complaints, empty where there are none ---------------------------------------------------------------------------


def _host(value: str) -> str:
    if all(re.fullmatch(r"\.?[\w-]+(\.[\w-]+)*|\[[0-9a-f:]+\]", one.strip()) for one in value.split(",")):
        return ""
    return "Give the name alone, without https://, port or path."


def _postgres(value: str) -> str:
    if urlsplit(value).scheme not in ("postgres", "postgresql"):
        return "It must begin with postgres://."
    try:
        psycopg.connect(value, connect_timeout=SECONDS).close()
    except psycopg.ProgrammingError:
        # What it says repeats a piece of the address, which holds a password.
        return "PostgreSQL's client does not understand it: special characters are percent-encoded."
    except psycopg.Error as error:
        return f"PostgreSQL does not take it: {str(error).strip().splitlines()[0]}."
    return ""


def _owner(value: str) -> str:
    if urlsplit(value).username == urlsplit(os.environ.get("DATABASE_URL", "")).username:
        return "It is the same role as in DATABASE_URL, but the product's must not own the tables."
    return _postgres(value)


def _redis(value: str) -> str:
    try:
        with redis.Redis.from_url(value, socket_connect_timeout=SECONDS, socket_timeout=SECONDS) as client:
            client.ping()
    except (redis.RedisError, ValueError, OSError) as error:
        return f"Redis does not take it: {error}."
    return ""


# --- The file ---------------------------------------------------------------------------------------------------------


def _check_file(path: Path) -> None:
    """Stop early where a file stays that lacks what the product could not start without."""
    if path.exists() and (lacking := [name for name in REQUIRED if name not in _assigned(path)]):
        stop(f"{path} exists and lacks {', '.join(lacking)}. Add them, or use --force, which keeps what it holds.")


def write(path: Path, *, force: bool) -> str:
    """Keep the settings of this process in `path`, for its owner alone; what was done, as a sentence.

    A file that is there stays unless `force` is given.
    """
    if path.exists() and not force:
        return f"{path} is there and stays as it is."
    values = {name: os.environ[name] for name in KEPT if os.environ.get(name)}
    others = {name: value for name, value in _assigned(path).items() if name not in KEPT}
    text = HEADER + "".join(f"{name}={_quoted(value)}\n" for name, value in {**values, **others}.items())
    partial = path.with_name(f"{path.name}.new")
    try:
        if path.exists():
            path.replace(path.with_name(f"{path.name}.old"))
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        stop(f"{path} cannot be written ({error.strerror}). Name another with --file.")
    return f"{path} holds the settings and their secrets."


def _assigned(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    before = dict(os.environ)
    try:
        os.environ.clear()
        environ.Env.read_env(path)
        return dict(os.environ)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _quoted(value: str) -> str:
    """As both docker compose and we read it back: in single quotes nothing has a meaning."""
    if re.fullmatch(r"[\w@%:/.,?=&+~*\[\]-]*", value):
        return value
    if "'" not in value:
        return f"'{value}'"
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
