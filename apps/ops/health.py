"""What probes and scrapers read: is the process alive, may it get traffic, what has it counted."""

from __future__ import annotations

import os

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from apps.edge.middleware import ahead_of_middleware
from apps.tenants.scoping import platform_unit

_migrated = False


@ahead_of_middleware
async def live(request: HttpRequest) -> HttpResponse:
    """200 while the event loop turns; nothing else, so that a database outage restarts no process."""
    return JsonResponse({"status": "ok"})


def _pending() -> bool:
    """Whether migrations are missing. Once they are not, only the connection is looked at."""
    global _migrated  # noqa: PLW0603 - migrations are only ever added by a deploy, which starts new processes
    if _migrated:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return False
    executor = MigrationExecutor(connection)
    _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return not _migrated


@ahead_of_middleware
async def ready(request: HttpRequest) -> HttpResponse:
    """200 when this process may get traffic: Postgres answers and is migrated. A dead model server does not matter."""
    try:
        pending = await platform_unit(_pending)
    except DatabaseError:
        return JsonResponse({"status": "unavailable", "database": "unreachable"}, status=503)
    if pending:
        return JsonResponse({"status": "unavailable", "database": "migrations are pending"}, status=503)
    return JsonResponse({"status": "ok"})


@ahead_of_middleware
async def metrics(request: HttpRequest) -> HttpResponse:
    """What this process has counted; of all processes of the host where PROMETHEUS_MULTIPROC_DIR joins them."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
