"""setup_database gives the app's role its rights and no more, and nobody's role may more than it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.test import Client

from apps.ops import doctor, health
from apps.ops.checks import behind_a_proxy, plain_role
from apps.ops.doctor import data
from apps.ops.management.commands import create_demo
from apps.tenants.models import User
from apps.tenants.scoping import tenant_scope
from apps.usage import limits
from apps.usage.models import Plan
from apps.usage.standard_plan import create_standard_plan
from chatbot.quota import Account
from tests import factories
from tests.environment import Backends

both_roles = pytest.mark.django_db(transaction=True, databases=["default", "owner"])


def run(command: str) -> str:
    output = StringIO()
    call_command(command, stdout=output)
    return output.getvalue()


@pytest.fixture
def by_hand(servers: Backends) -> Iterator[str]:
    """A table that the owner made before anybody set the default privileges."""
    servers.superuser.execute(
        "SET ROLE parley_owner; ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM parley_app;"
        "CREATE TABLE by_hand (id int); RESET ROLE"
    )
    yield "by_hand"
    servers.superuser.execute("DROP TABLE by_hand")


def may_read(servers: Backends, table: str) -> bool:
    [allowed] = servers.superuser.execute("SELECT has_table_privilege('parley_app', %s, 'SELECT')", [table]).fetchone()
    return bool(allowed)


@both_roles
def test_setup_database_grants_tables_that_were_made_by_hand(servers: Backends, by_hand: str) -> None:
    assert not may_read(servers, by_hand)
    assert "up to date" in run("setup_database")
    assert may_read(servers, by_hand)


@both_roles
def test_setup_database_gives_nothing_back_that_was_taken_away(servers: Backends, by_hand: str) -> None:
    run("setup_database")
    servers.superuser.execute("REVOKE SELECT ON by_hand FROM parley_app")
    run("setup_database")
    assert not may_read(servers, by_hand)


@both_roles
def test_new_tables_of_the_owner_are_the_app_s_to_use(servers: Backends) -> None:
    run("setup_database")
    servers.superuser.execute("SET ROLE parley_owner; CREATE TABLE later (id int); RESET ROLE")
    try:
        assert may_read(servers, "later")
        with connections["default"].cursor() as cursor, pytest.raises(psycopg.errors.InsufficientPrivilege):
            cursor.cursor.execute("TRUNCATE later")
    finally:
        servers.superuser.execute("DROP TABLE later")


def test_setup_database_refuses_one_role_for_both(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES, "owner", settings.DATABASES["default"])
    with pytest.raises(CommandError, match="two"):
        run("setup_database")


@pytest.fixture
def grants(servers: Backends) -> Iterator[Callable[[str], None]]:
    """Changes the product's role, and takes it back."""
    undone = {
        "ALTER ROLE parley_app BYPASSRLS": "ALTER ROLE parley_app NOBYPASSRLS",
        "ALTER ROLE parley_app SUPERUSER": "ALTER ROLE parley_app NOSUPERUSER",
        "GRANT parley_search TO parley_app": "REVOKE parley_search FROM parley_app",
        "CREATE TABLE astray (); ALTER TABLE astray OWNER TO parley_app": "DROP TABLE astray",
    }
    given: list[str] = []

    def grant(what: str) -> None:
        given.append(undone[what])
        servers.superuser.execute(what)

    yield grant
    for statement in given:
        servers.superuser.execute(statement)


@pytest.mark.parametrize(
    ("grant", "said"),
    [
        ("ALTER ROLE parley_app BYPASSRLS", "bypasses row-level security"),
        ("ALTER ROLE parley_app SUPERUSER", "is a superuser"),
        ("GRANT parley_search TO parley_app", "is a member of parley_search"),
        ("CREATE TABLE astray (); ALTER TABLE astray OWNER TO parley_app", "owns 1 tables"),
    ],
)
def test_a_role_that_may_too_much_is_named_everywhere(
    database: None, grants: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, grant: str, said: str
) -> None:
    monkeypatch.setattr(health, "_prepared", False)
    assert plain_role() == []
    assert Client().get("/healthz/ready").status_code == 200
    monkeypatch.setattr(health, "_prepared", False)
    grants(grant)
    [finding] = data._role()
    assert (finding.level, finding.says) == ("fail", f"parley_app {said}")
    [message] = plain_role()
    assert (message.id, message.msg) == ("parley.E001", f"parley_app, the role of DATABASE_URL, {said}.")
    response = Client().get("/healthz/ready")
    assert (response.status_code, response.json()["database"]) == (503, f"the role of DATABASE_URL {said}")


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "LOCAL", False)


def test_a_fresh_installation_has_a_plan_that_holds_for_every_new_tenant(database: None) -> None:
    plan = create_standard_plan()
    assert plan is not None
    acme = factories.make_tenant("acme")
    assert create_standard_plan() is None
    visitor = [(Account("visitor", "v"), "visitor:v")]
    with tenant_scope(acme):
        held = limits.read(acme)
    assert {limit.name for limit in held.of(visitor)} >= {"visitor.requests.minute", "visitor.requests.day"}
    rows = list(plan.limits.all())
    for place, row in enumerate(rows):
        row.full_clean()
        row.refuse_less_than(rows[:place])


def test_a_fresh_demo_has_the_plan_and_an_older_one_is_left_as_it_is(
    database: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(settings, "PARLEY_HOME", tmp_path)
    monkeypatch.setattr(create_demo, "_documents", list)
    for kind in ("CHAT", "EMBEDDING"):
        monkeypatch.setenv(f"DEMO_{kind}_URL", "http://127.0.0.1:9")
        monkeypatch.setenv(f"DEMO_{kind}_MODEL", "fake")
    monkeypatch.setenv("DEMO_EMBEDDING_DIMENSION", "384")
    run("create_demo")
    [finding] = doctor.limits()
    assert finding.level == "ok"
    Plan.objects.get(name="Standard", is_default=True).delete()
    run("create_demo")
    assert not Plan.objects.exists()


def test_the_demo_is_made_in_no_production(db: None, production: None) -> None:
    with pytest.raises(CommandError, match="only where PARLEY_ENV=local"):
        run("create_demo")
    assert not User.objects.exists()


def test_the_deployment_check_sees_a_redirect_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert behind_a_proxy() == []
    monkeypatch.setattr(settings, "SECURE_SSL_REDIRECT", True)
    assert [message.id for message in behind_a_proxy()] == ["parley.W001"]
    monkeypatch.setattr(settings, "SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https"), raising=False)
    assert behind_a_proxy() == []
