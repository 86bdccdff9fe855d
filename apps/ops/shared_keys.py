"""What Redis holds of a tenant: journals, counters, remembered vectors, visitors' tokens. The tenant's id stands in it.

Buckets of rate limits are not found: they are named by a digest, say nothing, and end within minutes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.conf import settings
from redis import Redis

from apps.access.visitors import TOKENS
from apps.usage.scripts import OPEN, REFUSED

SECONDS = 10.0  # that Redis may take for an answer
AT_ONCE = 1_000


class _Found(NamedTuple):
    """A key, or a member of one that others have members of, too."""

    key: Any
    member: Any = None


def count_keys(tenant_id: uuid.UUID) -> int:
    with _servers() as clients:
        return sum(1 for client in clients for _ in _found(client, tenant_id))


def remove_keys(tenant_id: uuid.UUID) -> None:
    with _servers() as clients:
        for client in clients:
            for key, member in _found(client, tenant_id):
                if member is None:
                    client.unlink(key)
                else:
                    client.zrem(key, member)


@contextmanager
def _servers() -> Iterator[list[Redis]]:
    addresses = dict.fromkeys((settings.REDIS_URL, str(settings.CACHES["default"]["LOCATION"])))
    clients = [Redis.from_url(one, socket_timeout=SECONDS, socket_connect_timeout=SECONDS) for one in addresses]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def _found(client: Redis, tenant_id: uuid.UUID) -> Iterator[_Found]:
    yield from map(_Found, client.scan_iter(f"*{tenant_id}*", count=AT_ONCE))
    for key in (OPEN, REFUSED):
        yield from (_Found(key, member) for member, _ in client.zscan_iter(key, f"{tenant_id}|*", count=AT_ONCE))
    for key in client.scan_iter(f"{TOKENS}*", count=AT_ONCE):
        value: Any = client.get(key)
        if value and str(tenant_id).encode() in value:
            yield _Found(key)
