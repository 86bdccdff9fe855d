"""Turns endpoint rows into the process-wide pool, and keeps it fresh without a restart."""

from __future__ import annotations

import time

from apps.inference.models import Endpoint as Row
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from chatbot.errors import ModelUnavailable
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Deadlines, Endpoint
from chatbot.inference.pool import Pool

# How long a process may use endpoints as they were before an operator's change.
FRESH_SECONDS = 2.0

_pool = Pool(Client())
_fresh_until = 0.0


def engine_endpoint(row: Row) -> Endpoint:
    """The engine's picture of a row."""
    return Endpoint(
        id=str(row.pk),
        kind="embedding" if row.kind == Row.Kind.EMBEDDING else "chat",
        name=row.name,
        base_url=row.base_url,
        model=row.model,
        context_length=row.context_length,
        dimension=row.dimension,
        api_key=row.api_key,
        deadlines=Deadlines(first_token=row.first_token_seconds),
    )


def refresh() -> None:
    """Read the endpoints again if they may have changed. Database work: call it inside a unit or a task."""
    global _fresh_until  # noqa: PLW0603 - the pool is the process's, and so is its age
    if time.monotonic() < _fresh_until:
        return
    _pool.replace([engine_endpoint(row) for row in Row.objects.filter(enabled=True)])
    _fresh_until = time.monotonic() + FRESH_SECONDS


def forget() -> None:
    """Read the endpoints again at the next question: after a change in this process."""
    global _fresh_until  # noqa: PLW0603
    _fresh_until = 0.0


def chat_endpoints(tenant: Tenant, chosen: Row | None) -> list[Endpoint]:
    """The chat endpoints to try for a tenant, first one first; a chosen one goes alone.

    Raises ModelUnavailable where there is none.
    """
    refresh()
    rows = Row.objects.serving(tenant, Row.Kind.CHAT)
    if chosen is not None:
        rows = rows.filter(pk=chosen.pk)
    if not rows:
        raise ModelUnavailable("No chat endpoint is configured for this tenant.")
    return [engine_endpoint(row) for row in rows]


async def pool() -> Pool:
    """The process's pool, at most FRESH_SECONDS older than the rows."""
    if time.monotonic() >= _fresh_until:
        await unit(refresh)
    return _pool
