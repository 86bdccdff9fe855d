"""rehearse_upgrade tells what others would have felt of the pending migrations, and touches nothing but the copy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.apps.ops.copies import Copy, copied
from tests.environment import ENVIRONMENT, ROOT, Backends

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner", "operator"])
ROWS = 2_000
SECONDS = re.compile(r"\b\d\.\d\d s\b")
UNDO = """
    DELETE FROM django_migrations WHERE name IN ('0003_quick', '0004_heavy');
    DROP TABLE widget_note;
    ALTER TABLE tenants_tenant DROP CONSTRAINT named
"""


@pytest.fixture(scope="module")
def copy(servers: Backends) -> Iterator[Copy]:
    """Of a database at an older migration, with rows."""
    with copied() as made:
        made.superuser.execute(
            "INSERT INTO tenants_tenant (id, name, slug, time_zone, is_active, created)"
            " SELECT gen_random_uuid(), 'Tenant ' || n, 'tenant-' || n, 'UTC', true, now()"
            " FROM generate_series(1, %s) n",
            [ROWS],
        )
        yield made


@pytest.fixture
def newer(settings: LazySettings) -> None:
    """The release has migrations that the copy lacks, and statements wait for 0.2 s at most."""
    settings.MIGRATION_MODULES = {"widget": "tests.apps.ops.migrations.heavy"}
    settings.PARLEY_SQL_TIMEOUT_MS = 200


def run(*arguments: str) -> tuple[int, str]:
    """The exit status, and what was said."""
    out = StringIO()
    try:
        call_command("rehearse_upgrade", *arguments, stdout=out)
    except SystemExit as ended:
        return int(str(ended.code)), out.getvalue()
    return 0, out.getvalue()


def applied(connection: psycopg.Connection[Any]) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM django_migrations WHERE app = 'widget'")}


def test_where_nothing_is_pending_nothing_is_done(copy: Copy) -> None:
    assert run("--on", copy.url) == (0, "No migration is pending on the copy.\n")
    status, told = run("--on", copy.url, "--json")
    assert (status, json.loads(told)) == (0, {"longest_lock": 2.0, "noticed": False, "migrations": []})


def test_one_that_fails_is_named(copy: Copy, settings: LazySettings) -> None:
    settings.MIGRATION_MODULES = {"widget": "tests.apps.ops.migrations.stuck"}
    with psycopg.connect(copy.url) as holding:
        holding.execute("LOCK TABLE widget_widget IN ROW EXCLUSIVE MODE")
        with pytest.raises(
            CommandError, match=r"^widget\.0003_stuck failed: For 1 second somebody was at widget_widget"
        ):
            run("--on", copy.url)
    assert "0003_stuck" not in applied(copy.superuser)


def test_long_locks_scans_and_rewrites_are_told_of_each_migration(copy: Copy, newer: None, servers: Backends) -> None:
    status, told = run("--on", copy.url, "--json")
    report = json.loads(told)
    assert (status, report["noticed"]) == (1, True)
    quick, heavy = report["migrations"]
    assert quick["migration"] == "widget.0003_quick"
    assert (quick["locks"], quick["passes"], quick["hindrances"]) == ([], [], [])
    assert [(lock["table"], lock["mode"]) for lock in heavy["locks"]] == [("tenants_tenant", "AccessExclusive")]
    assert heavy["locks"][0]["seconds"] > 0.4
    assert heavy["seconds"] > heavy["locks"][0]["seconds"]
    assert len(heavy["passes"]) == 2, heavy["passes"]
    rewrote, read = heavy["passes"]
    assert (rewrote["table"], rewrote["rewrote"]) == ("tenants_tenant", True)
    assert "ADD COLUMN noted" in rewrote["statement"]
    assert (read["table"], read["rows"], read["rewrote"]) == ("tenants_tenant", ROWS, False)
    assert "ADD CONSTRAINT named" in read["statement"]
    assert heavy["hindrances"] == ["DROPPING columns"]
    assert {"0003_quick", "0004_heavy"} <= applied(copy.superuser)
    assert applied(servers.superuser).isdisjoint({"0003_quick", "0004_heavy"})
    copy.superuser.execute(UNDO)
    status, told = run("--on", copy.url)
    assert status == 1
    quick, shown = told.split("\n", 1)
    assert quick.startswith("widget.0003_quick ")
    page = (ROOT / "docs" / "upgrading.md").read_text()
    assert SECONDS.sub("0.50 s", shown) in SECONDS.sub("0.50 s", page)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("name", ["OWNER_DATABASE_URL", "DATABASE_URL"])
def test_the_live_database_is_refused_by_whatever_address(newer: None, servers: Backends, name: str, host: str) -> None:
    with pytest.raises(CommandError, match="leads to the live database"):
        run("--on", ENVIRONMENT[name].replace("127.0.0.1", host))
    assert "0003_quick" not in applied(servers.superuser)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("no address", "--on is not an address"),
        ("postgres://parley_owner:s3cr3t@127.0.0.1:9/parley", "The copy does not answer"),
    ],
)
def test_what_is_no_copy_is_refused_without_its_password(url: str, said: str) -> None:
    with pytest.raises(CommandError, match=said) as refused:
        run("--on", url)
    assert "s3cr3t" not in str(refused.value)
