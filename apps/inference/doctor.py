"""Whether the model servers work."""

from __future__ import annotations

from collections.abc import Iterator

from asgiref.sync import async_to_sync
from django.db import DatabaseError, connection

from apps.edge.findings import Finding, fail, ok, warn
from apps.inference.models import Endpoint
from apps.inference.probe import probe


def endpoints() -> Iterator[Finding]:
    try:
        rows = list(Endpoint.objects.filter(enabled=True))
    except DatabaseError:
        return  # told of above
    finally:
        connection.close()
    for kind in (Endpoint.Kind.CHAT, Endpoint.Kind.EMBEDDING):
        if not any(row.kind == kind for row in rows):
            yield warn("endpoints", f"no {kind.label.lower()} endpoint", "Add one in the admin under Endpoints.")
    for row in rows:
        yield _reach(row)


def _reach(row: Endpoint) -> Finding:
    """By a small piece of work, as "Test now" in the admin does it."""
    result = async_to_sync(probe)(row)
    if result.error:
        return fail(
            "endpoint", f"{row.name}: {result.error}", "Mend it in the admin under Endpoints, and test it there."
        )
    said = f"{row.name} answers in {result.total_ms / 1000:.1f} s"
    return warn("endpoint", said, result.advice) if result.advice else ok("endpoint", said)
