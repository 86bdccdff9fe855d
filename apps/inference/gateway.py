"""Turns endpoint rows into the process-wide pool, and keeps it fresh without a restart."""

from __future__ import annotations

import asyncio
import contextvars
import time
import uuid
from collections import defaultdict
from functools import partial
from typing import NamedTuple, cast

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction

from apps.edge import bus, tracing
from apps.inference import metrics
from apps.inference.models import Endpoint as Row
from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit
from apps.webhooks import operators
from chatbot.errors import ModelError
from chatbot.inference.client import Client
from chatbot.inference.endpoint import Deadlines, Endpoint, Kind, ProtocolName
from chatbot.inference.pool import Pool
from chatbot.inference.protocols import protocol_of
from chatbot.inference.state import Change
from chatbot.inference.waking import Dedicated

log = structlog.get_logger(__name__)

# How long a process may use endpoints as they were before an operator's change.
FRESH_SECONDS = 2.0


class _Known(NamedTuple):
    endpoint: Endpoint
    tenants: frozenset[uuid.UUID]  # that may use it; empty for all


_pool = Pool(Client(allowed=settings.PARLEY_PRIVATE_ENDPOINT_HOSTS, beside=tracing.headers))
_known: list[_Known] = []
_fresh_until = 0.0
_changes = 0  # that this process was told of


def engine_endpoint(row: Row) -> Endpoint:
    """The engine's picture of a row."""
    return Endpoint(
        id=str(row.pk),
        kind=cast("Kind", row.kind),
        name=row.name,
        protocol=cast("ProtocolName", row.protocol),
        base_url=row.base_url,
        model=row.model,
        context_length=row.context_length,
        dimension=row.dimension,
        api_key=row.api_key,
        weight=row.weight,
        tier=row.tier,
        limit=row.limit,
        draining=row.draining,
        prompt_price=row.prompt_price,
        completion_price=row.completion_price,
        wake_seconds=row.wake_seconds,
        hub_name=row.hub_name,
        deadlines=Deadlines(
            connect=row.connect_seconds,
            first_token=row.first_token_seconds,
            between_tokens=row.between_tokens_seconds,
            total=row.total_seconds,
        ),
    )


def refresh() -> None:
    """Read the endpoints again if they may have changed. Database work: call it inside a unit or a task."""
    global _fresh_until, _known  # noqa: PLW0603 - the pool is the process's, and so is its age
    if time.monotonic() < _fresh_until:
        return
    changes = _changes
    rows = Row.objects.filter(enabled=True).order_by("tier", "created")
    allowed = defaultdict(set)
    for endpoint_id, tenant_id in Row.tenants.through.objects.values_list("endpoint_id", "tenant_id"):
        allowed[endpoint_id].add(tenant_id)  # tenants themselves are seen in their scopes alone
    _known = [_Known(engine_endpoint(row), frozenset(allowed[row.pk])) for row in rows]
    for known in _known:
        protocol_of(known.endpoint)  # what it has to import is imported here and not on the event loop
    _pool.replace(known.endpoint for known in _known)
    if _changes == changes:  # else these rows may be from before what was told meanwhile
        _fresh_until = time.monotonic() + FRESH_SECONDS


def forget(_: object = None) -> None:
    """Read the endpoints again at the next question."""
    global _changes, _fresh_until  # noqa: PLW0603
    _changes += 1
    _fresh_until = 0.0


def changed() -> None:
    """Have every process do so: an operator has changed something. Whom no message reaches finds out itself.

    Once this transaction commits: whoever read before that would keep what was for FRESH_SECONDS more.
    """
    transaction.on_commit(partial(bus.publish, CHANGED, None), robust=True)


def reset(endpoint_id: str, address: str = "") -> None:
    """Have every process close the breakers of an endpoint's servers, or of the one at an address."""
    bus.publish(RESET, [endpoint_id, address])


def _reset(message: list[str]) -> None:
    _pool.reset(*message)


def _note(change: Change) -> None:
    level = log.info if change.what in _GOOD else log.warning
    level(change.what, endpoint=change.name, address=change.address, why=change.why)
    metrics.CHANGES.labels(change.endpoint, change.what).inc()
    kind, _, _ = change.what.partition(".")
    operators.announce(
        change.what,
        {"endpoint": change.endpoint, "name": change.name, "address": change.address, "why": change.why},
        about=f"{kind}:{change.endpoint}:{change.address}",
    )


_GOOD = {"breaker.closed", "server.found"}
_pool.on_change = _note
CHANGED, RESET = "endpoints.changed", "endpoints.reset"
bus.subscribe(CHANGED, forget)
bus.subscribe(RESET, _reset)


def share_with(others: int) -> None:
    """How many other processes ask the same servers now: each keeps to its part of their limits."""
    _pool.divide(1 + others)


def chat_endpoints(tenant: Tenant, chosen_id: uuid.UUID | None) -> list[Endpoint]:
    """The chat endpoints that may answer a tenant; a chosen one goes alone. As of the latest refresh(), which pool()
    does, too. Which of them is asked, the pool decides."""
    return [endpoint for endpoint in _serving(tenant, "chat") if chosen_id is None or endpoint.id == str(chosen_id)]


def rerank_endpoints(tenant: Tenant) -> list[Endpoint]:
    """The reranking endpoints that may serve a tenant, as of the latest refresh()."""
    return _serving(tenant, "rerank")


def _serving(tenant: Tenant, kind: Kind) -> list[Endpoint]:
    return [endpoint for endpoint, tenants in _known if endpoint.kind == kind and (not tenants or tenant.pk in tenants)]


async def pool() -> Pool:
    """The process's pool, at most FRESH_SECONDS older than the rows; while those cannot be read, as it was."""
    global _reading  # noqa: PLW0603
    if time.monotonic() >= _fresh_until:
        # Once for all who ask meanwhile: a crowd of questions would else take a crowd of connections.
        if _reading is None or _reading.done() or _reading.get_loop() is not asyncio.get_running_loop():
            _reading = asyncio.create_task(_read(), context=contextvars.Context())
        await asyncio.shield(_reading)
    return _pool


_reading: asyncio.Task[None] | None = None


async def _read() -> None:
    try:
        await platform_unit(refresh)
    except (OperationalError, InterfaceError) as error:
        if not _known:
            raise
        log.warning("endpoints.not_read", error=type(error).__name__)


async def dedicated(token: str) -> list[Dedicated]:
    """The dedicated Inference Endpoints that a Hugging Face token's owner has. Raises a ModelError."""
    from chatbot.inference import hub  # noqa: PLC0415 - heavy, and seldom used

    return await hub.owned(token)


async def wake_up(row: Row) -> str:
    """Start a dedicated Inference Endpoint; what came of it, in a sentence."""
    from chatbot.inference import hub  # noqa: PLC0415 - heavy, and seldom used

    try:
        state = (await hub.start(engine_endpoint(row))).state
    except ModelError as error:
        return error.message
    if state == "running":
        return "It is running already."
    return f"Hugging Face starts it, which takes some minutes; its state is “{state}”."
