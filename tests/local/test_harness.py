"""The fixtures that every other test stands on: whose role they use, and what one test leaves to the next."""

from __future__ import annotations

import socket

import pytest
from django.conf import settings
from django.db import connection
from redis import Redis

from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit
from tests.factories import make_tenant


def test_tests_run_as_the_restricted_role(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolname, rolsuper, rolbypassrls,"
            " (SELECT count(*) FROM pg_class WHERE relowner = r.oid AND relpersistence <> 't'),"
            " (SELECT count(*) FROM pg_auth_members WHERE member = r.oid) FROM pg_roles r WHERE rolname = current_user"
        )
        assert cursor.fetchone() == ("parley_app", False, False, 0, 0)


@pytest.mark.parametrize("attempt", ["first", "second"])
def test_committed_rows_are_gone_in_the_next_test(database: None, attempt: str) -> None:
    assert not Tenant.objects.exists()
    make_tenant("acme")


@pytest.mark.parametrize("attempt", ["first", "second"])
async def test_async_tests_see_what_their_threads_committed(database: None, attempt: str) -> None:
    assert not await platform_unit(Tenant.objects.exists)
    await platform_unit(make_tenant, "acme")
    assert await platform_unit(Tenant.objects.count) == 1


@pytest.mark.parametrize("attempt", ["first", "second"])
def test_redis_is_empty_in_the_next_test(redis: None, attempt: str) -> None:
    with Redis.from_url(settings.REDIS_URL) as client:
        assert client.keys() == []
        client.set("key", "value")


def test_no_socket_leaves_the_machine() -> None:
    with socket.socket() as outside, pytest.raises(AssertionError, match="loopback"):
        outside.connect(("192.0.2.1", 80))
