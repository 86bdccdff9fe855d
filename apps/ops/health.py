"""What probes and scrapers read: is the process alive, may it get traffic, what has it counted."""

from __future__ import annotations

import os
from contextlib import suppress

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from apps.conversations import draining
from apps.edge.middleware import ahead_of_middleware
from apps.knowledge.metrics import Recall
from apps.ops import roles
from apps.tenants.scoping import platform_unit

_prepared = False


@ahead_of_middleware
async def live(request: HttpRequest) -> HttpResponse:
    """200 while the event loop turns; nothing else, so that a database outage restarts no process."""
    return JsonResponse({"status": "ok"})


def _lacking() -> str:
    """What the database lacks for this process; once it lacks nothing, only the connection is looked at."""
    global _prepared  # noqa: PLW0603 - migrations and roles change by a deploy, which starts new processes
    if _prepared:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return ""
    if faults := roles.of_the_product().faults:
        return f"the role of DATABASE_URL {' and '.join(faults)}"
    executor = MigrationExecutor(connection)
    _prepared = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return "" if _prepared else "migrations are pending"


@ahead_of_middleware
async def ready(request: HttpRequest) -> HttpResponse:
    """200 when this process may get traffic: it is not draining, and Postgres answers, is migrated and keeps tenants
    apart. A dead model server does not matter."""
    if not draining.is_ready():
        return JsonResponse({"status": "draining"}, status=503)
    try:
        lacking = await platform_unit(_lacking)
    except DatabaseError:
        lacking = "unreachable"
    if lacking:
        return JsonResponse({"status": "unavailable", "database": lacking}, status=503)
    return JsonResponse({"status": "ok"})


@ahead_of_middleware
async def metrics(request: HttpRequest) -> HttpResponse:
    """What this process has counted; of all processes of the host where PROMETHEUS_MULTIPROC_DIR joins them. And what
    the database knows, unless it is away."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    counted = generate_latest(registry)
    with suppress(DatabaseError):
        counted += await platform_unit(_known)
    return HttpResponse(counted, content_type=CONTENT_TYPE_LATEST)


def _known() -> bytes:
    registry = CollectorRegistry()
    registry.register(Recall())
    return generate_latest(registry)
