"""Fixtures for every test: the database and Redis, settings that make tests fast, and a wall around the machine.

A sync test that only reads and writes rows takes pytest-django's `db` (or its `django_db` marker): it runs in a
transaction that is rolled back. Async tests, and those with threads, commits or row locks, take `database`: what they
write is committed, seen by every thread, and deleted afterwards. Both work as the app's restricted role.

A test's own statements see the rows of all tenants, the product's what production would show them: all_tenants.py tells
how. Whatever expects its caller to be in a tenant's scope is called in one: `with tenant_scope(acme): ...`.
"""

from __future__ import annotations

import inspect
import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import TransactionTestCase, override_settings
from django.urls import get_resolver
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from apps.access import rates
from apps.conversations import replicas
from apps.tenants import statements
from local.home import free_port
from local.processes import healthy, spawn, stop, wait_until
from tests import all_tenants
from tests.environment import HOME, ROOT, Backends
from tests.patience import CACHE, SECONDS, STORES

LOOPBACK_NAMES = {"localhost"}


@pytest.fixture(scope="session")
def servers() -> Iterator[Backends]:
    """A migrated PostgreSQL and an empty Redis of this process's own."""
    get_resolver().url_patterns  # noqa: B018 - or loading them all would hold up the event loop of the first request
    started = Backends()
    with _patience():
        yield started
    started.stop()


@contextmanager
def _patience() -> Iterator[None]:
    """Give PostgreSQL and Redis more time (tests/patience.py), and statements a worker's, whose work tests do in this
    process."""
    cache = settings.CACHES["default"]
    caches = {"default": {**cache, "OPTIONS": {**cache["OPTIONS"], **CACHE}}}
    with pytest.MonkeyPatch.context() as patch, override_settings(CACHES=caches):
        for module in STORES:
            patch.setattr(module, "SECONDS", SECONDS)
        patch.setattr(replicas, "JOIN_SECONDS", SECONDS)
        patch.setattr(statements, "WAIT_SECONDS", SECONDS)
        for name in ("default", "operator"):
            options = settings.DATABASES[name]["OPTIONS"]
            limit = f"statement_timeout={settings.PARLEY_SQL_TIMEOUT_MS}"
            patch.setitem(options, "options", options["options"].replace(limit, "statement_timeout=30000"))
            patch.setitem(options["pool"], "timeout", SECONDS)
        yield


@pytest.fixture(scope="session")
def django_db_setup(servers: Backends, django_db_blocker: Any) -> Iterator[None]:
    """Replaces pytest-django's: the database is ready, and its own would create one, which the app's role may not."""
    with pytest.MonkeyPatch.context() as patch:
        # Django would TRUNCATE as the app's role, which may not.
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _test: servers.empty_database())
        yield
    with django_db_blocker.unblock():
        for connection in connections.all():
            connection.close()
            connection.close_pool()


@pytest.fixture
def redis(servers: Backends) -> Iterator[None]:
    """Redis, empty before and after: whatever logs in counts there, whether its test knows it or not."""
    servers.empty_redis()
    rates.forget()  # that it was away for an earlier test
    yield
    servers.empty_redis()


@pytest.fixture
def database(redis: None, transactional_db: None) -> None:
    """Committed rows, and Redis, for sync and async tests alike; both are emptied afterwards."""


@pytest.fixture(scope="module")
def web(servers: Backends) -> Iterator[str]:
    """The address of a web process as `make up` starts it, on this process's database and Redis.

    It ends with the module: in others' tests it would take over the turns that they leave to nobody.
    """
    with serving() as address:
        yield address


@contextmanager
def serving(host: str = "127.0.0.1", **environment: str) -> Iterator[str]:
    """The address of one more web process, by this name and with these settings."""
    subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--noinput"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    port = free_port()
    log = HOME / f"web-{port}.log"
    address = f"http://{host}:{port}"
    process = spawn(
        [sys.executable, "-m", "daphne", "-e", f"tcp:port={port}:interface=127.0.0.1", "tests.patient:application"],
        log=log,
        env={**os.environ, "PARLEY_BASE_URL": address, **environment},
    )
    wait_until(lambda: healthy(f"{address}/healthz/ready"), name="web", process=process, log=log)
    yield address
    stop(process)


@pytest.fixture(scope="session", autouse=True)
def quick_settings() -> Iterator[None]:
    """Cheap passwords, and static files without the manifest that `collectstatic` makes."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    with override_settings(
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        STORAGES={**settings.STORAGES, "staticfiles": plain},
    ):
        yield


def pytest_configure() -> None:
    _wall_in()
    all_tenants.install()
    # How long an example takes says more of the machine than of what is tested.
    hypothesis_settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    hypothesis_settings.load_profile("busy")


def _wall_in() -> None:
    """Let no Python socket leave the machine: a test that needs the internet tests the internet."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def check(family: int, address: Any) -> None:
        if family not in (socket.AF_INET, socket.AF_INET6):
            return
        host = address[0]
        if host not in LOOPBACK_NAMES and not ipaddress.ip_address(host).is_loopback:
            raise AssertionError(f"A test tried to reach {host}; only the loopback interface is allowed.")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        check(self.family, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        check(self.family, address)
        return connect_ex(self, address)

    socket.socket.connect = guarded_connect  # type: ignore[method-assign]
    socket.socket.connect_ex = guarded_connect_ex  # type: ignore[method-assign]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests with committed rows read as the platform's operators, whose login is another connection.

    Refuse what would fail in puzzling ways: an async test works in threads, which see no uncommitted rows.
    """
    for item in items:
        if "transactional_db" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("django_db"):
            item.add_marker(pytest.mark.django_db(transaction=True, databases=["default", "operator"]))
        function = getattr(item, "function", None)
        if not inspect.iscoroutinefunction(function):
            continue
        marker = item.get_closest_marker("django_db")
        names = getattr(item, "fixturenames", ())
        if "transactional_db" not in names and ("db" in names or (marker and not marker.kwargs.get("transaction"))):
            raise pytest.UsageError(f"{item.nodeid} is async and must ask for `database`, not for `db` or `django_db`.")
