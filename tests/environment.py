"""A pytest plugin that gives each test process an environment, and on demand a PostgreSQL and a Redis, of its own.

pyproject.toml loads it with `-p`, since pytest-django reads Django's settings before it reads any conftest. Every
process, each of xdist's workers too, has its own servers on its own ports, so no test can see another's rows or
messages. Nothing is started until a test asks: see the `servers` fixture in tests/conftest.py.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from psycopg import sql

from local import postgres, redis_server
from local.home import free_port
from local.processes import spawn, stop, wait_until
from tests import all_tenants

ROOT = Path(__file__).resolve().parent.parent
SEEDS = ROOT / "var" / "test-seeds"
PASSWORDS = {
    postgres.SUPERUSER: "superuser",
    postgres.OWNER: "owner",
    postgres.APP: "app",
    postgres.OPERATOR: "operator",
}
REDIS_PASSWORD = "redis"

HOME = Path(tempfile.mkdtemp(prefix="parley-tests-"))
POSTGRES_PORT = free_port()
REDIS_PORT = free_port()


def _database_url(role: str, port: int) -> str:
    return f"postgres://{role}:{PASSWORDS[role]}@127.0.0.1:{port}/{postgres.DATABASE}"


ENVIRONMENT = {
    "PARLEY_ENV": "local",
    "PARLEY_HOME": str(HOME),
    "PARLEY_BASE_URL": "http://127.0.0.1:8000",
    "ALLOWED_HOSTS": "127.0.0.1,localhost,testserver",
    "SECRET_KEY": "a secret that only tests know, long enough to be accepted",
    "PARLEY_KEY_PEPPER": "a pepper that only tests know, long enough to be accepted",
    "PARLEY_ENCRYPTION_KEYS": "dGhpcyBpcyBhIGtleSB0aGF0IG9ubHkgdGVzdHMgdXM=",
    "DATABASE_URL": _database_url(postgres.APP, POSTGRES_PORT),
    "OWNER_DATABASE_URL": _database_url(postgres.OWNER, POSTGRES_PORT),
    "OPERATOR_DATABASE_URL": _database_url(postgres.OPERATOR, POSTGRES_PORT),
    "REDIS_URL": f"redis://:{REDIS_PASSWORD}@127.0.0.1:{REDIS_PORT}/0",
    # All that a test does comes from one address. tests/apps/access/test_limiting.py sets limits that are reached.
    "PARLEY_ADDRESS_REQUESTS_A_MINUTE": "1000000",
    "PARLEY_ADDRESS_BURST": "1000000",
    "PARLEY_CREDENTIAL_REQUESTS_A_MINUTE": "1000000",
    "PARLEY_CREDENTIAL_BURST": "1000000",
    "PARLEY_DRAIN_GRACE_SECONDS": "0",
    "PARLEY_DRAIN_SECONDS": "1",
    "CACHE_URL": f"redis://:{REDIS_PASSWORD}@127.0.0.1:{REDIS_PORT}/1",
}
os.environ.update(ENVIRONMENT)
# A name server's answer that is lost costs a second, and not the five that the product waits for all of a request.
os.environ["RES_OPTIONS"] = "timeout:1 attempts:3"
(HOME / "static").mkdir()
atexit.register(shutil.rmtree, HOME, ignore_errors=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the seed before the first test: that one's time would count it, and be up on a busy machine."""
    if not session.config.option.collectonly and any(map(_needs_servers, session.items)):
        seed()


def _needs_servers(item: pytest.Item) -> bool:
    return item.get_closest_marker("django_db") is not None or bool(
        {"servers", "stores"} & set(getattr(item, "fixturenames", ()))
    )


class Backends:
    """The servers of one test process; they die with it, however it ends."""

    def __init__(self) -> None:
        postgres_log, redis_log = HOME / "postgres.log", HOME / "redis.log"
        HOME.chmod(0o711)  # PostgreSQL runs as another user when we are root
        data = HOME / "postgres"
        subprocess.run(["cp", "--archive", str(seed()), str(data)], check=True)
        self.redis = spawn(
            redis_server.command(HOME / "redis", REDIS_PORT, REDIS_PASSWORD, durable=False),
            log=redis_log,
            env=os.environ,
        )
        self.postgres = start_postgres(data, POSTGRES_PORT, postgres_log)
        wait_until(
            lambda: redis_server.answers(REDIS_PORT, REDIS_PASSWORD), name="redis", process=self.redis, log=redis_log
        )
        # Only the superuser passes row-level security and append-only triggers, which cleaning up must.
        self.superuser = postgres.connect(POSTGRES_PORT, PASSWORDS[postgres.SUPERUSER], postgres.DATABASE)
        self.superuser.execute("SET session_replication_role = replica")
        self.superuser.execute("SET lock_timeout = '60s'")
        self.emptying = self._emptying()

    def _emptying(self) -> sql.Composed:
        """Deletes from every table that migrations left empty. DELETE, since TRUNCATE costs a file a table."""
        tables = [
            row[0]
            for row in self.superuser.execute(
                "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
            )
        ]
        queries = {table: sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(table)) for table in tables}
        empty = [table for table, query in queries.items() if not self.superuser.execute(query).fetchone()]
        empty.remove("conversations_replica")
        deletions = sql.SQL("; ").join(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)) for table in empty)
        # A process that goes on would take its next turn for an orphan until it has written itself down again.
        alive = sql.SQL(" WHERE lock IS NULL OR pg_try_advisory_xact_lock(lock)")
        return sql.SQL("{}; DELETE FROM conversations_replica{}").format(deletions, alive)

    def empty_database(self) -> None:
        """Bring every table back to what the migrations made it. A forgotten lock is waited for a minute at most."""
        self.superuser.execute(self.emptying)

    def empty_redis(self) -> None:
        with redis_server.client(REDIS_PORT, REDIS_PASSWORD) as client:
            client.flushall()

    def stop(self) -> None:
        self.superuser.close()
        stop(self.redis)
        stop(self.postgres, signal.SIGQUIT)  # at once: nothing of it is kept


def start_postgres(data: Path, port: int, log: Path) -> subprocess.Popen[str]:
    process = spawn(
        postgres.command(data, port, durable=False),
        log=log,
        env=os.environ,
        user=postgres.system_user(),
        on_orphaned=signal.SIGQUIT,
    )
    secret = PASSWORDS[postgres.SUPERUSER]
    wait_until(lambda: postgres.answers(port, secret), name="postgres", process=process, log=log)
    return process


def seed() -> Path:
    """A stopped cluster with roles and migrated tables, made anew when a migration changes; each process copies it."""
    SEEDS.mkdir(parents=True, exist_ok=True)
    with (SEEDS / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        finished = SEEDS / _fingerprint()
        if not finished.exists():
            for old in SEEDS.glob("*/"):
                shutil.rmtree(old)
            _make_seed(SEEDS / "unfinished")
            (SEEDS / "unfinished").rename(finished)
    return finished


def _make_seed(data: Path) -> None:
    postgres.initialise(data, PASSWORDS[postgres.SUPERUSER], durable=False)
    port = free_port()
    process = start_postgres(data, port, HOME / "seed.log")
    try:
        postgres.prepare(port, PASSWORDS)
        subprocess.run(
            [sys.executable, "manage.py", "setup_database"],
            check=True,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            env={
                **os.environ,
                "DATABASE_URL": _database_url(postgres.APP, port),
                "OWNER_DATABASE_URL": _database_url(postgres.OWNER, port),
                "OPERATOR_DATABASE_URL": _database_url(postgres.OPERATOR, port),
            },
        )
        with postgres.connect(port, PASSWORDS[postgres.SUPERUSER], postgres.DATABASE) as superuser:
            all_tenants.add_policies(superuser, postgres.APP)
    finally:
        stop(process, signal.SIGINT)


def _fingerprint() -> str:
    """Names all that decides what is in a migrated cluster."""
    digest = hashlib.sha256()
    for path in [
        *sorted(ROOT.glob("apps/*/migrations/*.py")),
        ROOT / "apps/ops/management/commands/setup_database.py",
        ROOT / "apps/edge/table_locks.py",
        ROOT / "apps/tenants/row_security.py",
        ROOT / "config/settings.py",
        ROOT / "local/postgres.py",
        ROOT / "tests/all_tenants.py",
        ROOT / "requirements/base.txt",
        ROOT / "requirements/local.txt",
    ]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
