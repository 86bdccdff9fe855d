"""Scopes hold behind PgBouncer in transaction mode, where each transaction may get another session."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest

from local import postgres
from local.home import free_port
from local.processes import spawn, stop, wait_until
from tests.environment import HOME, PASSWORDS, POSTGRES_PORT, ROOT, Backends
from tests.factories import make_end_user, make_tenant

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
SESSIONS = 3
CONFIGURATION = """\
[databases]
{database} = host=127.0.0.1 port={server} dbname={database}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {sessions}
"""

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="needs PgBouncer: apt-get install pgbouncer")


@pytest.fixture
def address(servers: Backends) -> Iterator[str]:
    """The product's DATABASE_URL, by way of a PgBouncer with SESSIONS sessions. It refuses to run as root, too."""
    port = free_port()
    users, configuration, log = (HOME / f"pgbouncer.{kind}" for kind in ("users", "ini", "log"))
    users.write_text(f'"{postgres.APP}" "{PASSWORDS[postgres.APP]}"\n')
    configuration.write_text(
        CONFIGURATION.format(
            database=postgres.DATABASE, server=POSTGRES_PORT, port=port, users=users, sessions=SESSIONS
        )
    )
    url = f"postgres://{postgres.APP}:{PASSWORDS[postgres.APP]}@127.0.0.1:{port}/{postgres.DATABASE}"
    process = spawn([str(PGBOUNCER), str(configuration)], log=log, env=os.environ, user=postgres.system_user())
    wait_until(lambda: answers(url), name="pgbouncer", process=process, log=log)
    yield url
    stop(process)


def answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def test_each_scope_sees_its_tenant_in_sessions_that_serve_both(database: None, address: str) -> None:
    tenants = [make_tenant("acme"), make_tenant("globex")]
    for tenant in tenants:
        for _ in range(5):
            make_end_user(tenant=tenant)
    result = subprocess.run(
        [sys.executable, "-m", "tests.apps.tenants.through_pgbouncer", *(str(tenant.pk) for tenant in tenants)],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": address, "DATABASE_PGBOUNCER": "on"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert re.search(r"app\.tenant|uuid", told.pop("without_a_scope"))
    assert told.pop("sessions") <= SESSIONS
    assert told.pop("shared") > 0
    assert told == {"scopes": 400, "foreign": 0}
