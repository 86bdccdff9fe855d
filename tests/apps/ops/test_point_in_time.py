"""The database comes back to a moment by the commands that docs/data-safety.md gives, with the rows of that moment."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local import postgres
from local.home import free_port
from local.processes import spawn, stop, wait_until
from tests.apps.knowledge.ingesting import until
from tests.environment import HOME, PASSWORDS, ROOT, seed

PAGE = (ROOT / "docs/data-safety.md").read_text()
SUPERUSER = PASSWORDS[postgres.SUPERUSER]


def block(beginning: str) -> str:
    """The page's block of code that begins so."""
    [text] = re.findall(rf"```\w+\n({re.escape(beginning)}.*?)```", PAGE, re.DOTALL)
    return str(text)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that PostgreSQL's user reaches."""
    place = HOME / "point-in-time"
    (place / "archive/wal").mkdir(parents=True)
    HOME.chmod(0o711)
    _give(place)
    yield place
    shutil.rmtree(place)


def _give(path: Path) -> None:
    if user := postgres.system_user():
        for each in (path, *path.rglob("*")):
            os.chown(each, pwd.getpwnam(user).pw_uid, -1)


@contextmanager
def server(data: Path, settings: str) -> Iterator[psycopg.Connection[Any]]:
    """One on a copy of the tests' migrated cluster, with settings of the page."""
    with (data / "postgresql.conf").open("a") as file:
        file.write(settings)
    port = free_port()
    process = spawn(
        postgres.command(data, port),
        log=data.with_suffix(".log"),
        env=os.environ,
        user=postgres.system_user(),
        on_orphaned=signal.SIGQUIT,
    )
    log = data.with_suffix(".log")
    wait_until(lambda: postgres.answers(port, SUPERUSER), name="postgres", process=process, log=log)
    try:
        with postgres.connect(port, SUPERUSER, postgres.DATABASE) as connection:
            yield connection
    finally:
        stop(process, signal.SIGQUIT)


def test_the_database_comes_back_to_a_moment(place: Path) -> None:
    at = {"/archive": str(place / "archive")}
    subprocess.run(["cp", "--archive", str(seed()), str(place / "data")], check=True)
    insert = "INSERT INTO tenants_tenant (id, name, slug, time_zone, is_active, created)"
    insert += " VALUES (gen_random_uuid(), %s, %s, 'UTC', true, now())"
    with server(place / "data", _at(block("wal_level"), at)) as before:
        before.execute(insert, ["Acme", "acme"])
        for command in _at(block("pg_basebackup"), at).splitlines():
            _run(command, before.info.port)
        before.execute(insert, ["Globex", "globex"])
        [moment] = before.execute("SELECT clock_timestamp()::text").fetchone() or ()
        before.execute("SELECT pg_sleep(0.01)")
        before.execute("DELETE FROM tenants_tenant")
        [last] = before.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone() or ()
        _archive_again(place, last, before)
    shutil.move(place / "archive/base", place / "back")
    (place / "back/recovery.signal").touch()
    _give(place / "back")
    settings = _at(block("restore_command"), at | {"2026-01-31 03:15:00+00": moment})
    with server(place / "back", settings) as after:
        until(lambda: after.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,), 60)
        slugs = after.execute("SELECT slug FROM tenants_tenant ORDER BY 1").fetchall()
        assert slugs == [("acme",), ("globex",)]
        after.execute(insert, ["Initech", "initech"])


def _archive_again(place: Path, segment: str, connection: psycopg.Connection[Any]) -> None:
    """As a server does that crashed before it noted what is archived. The next segment waits for this one."""
    noted = place / "data/pg_wal/archive_status" / f"{segment}.done"
    until(noted.exists, 60)
    noted.rename(noted.with_suffix(".ready"))
    connection.execute("SELECT pg_logical_emit_message(false, '', '')")  # an empty segment does not end
    [following] = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone() or ()
    until((place / "archive/wal" / following).exists, 60)


def _at(text: str, places: dict[str, str]) -> str:
    for example, real in places.items():
        assert example in text
        text = text.replace(example, real)
    return text


def _run(command: str, port: int) -> None:
    program, *arguments = command.split()
    subprocess.run(
        [str(postgres.binaries() / program), *arguments],
        check=True,
        user=postgres.system_user(),
        cwd="/",
        env={"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": postgres.SUPERUSER, "PGPASSWORD": SUPERUSER},
    )
