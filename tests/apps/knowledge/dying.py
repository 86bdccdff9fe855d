"""Ingests documents, each in a process of its own that dies (kill -9) before its nth unit of work:

    python -m tests.apps.knowledge.dying TENANT DOCUMENT...

The nth document's process dies before its nth; one that has no more of them comes to its end.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import django

django.setup()

from apps.knowledge import embedding, fetching, pipeline  # noqa: E402 - models need the settings that are ready by now
from apps.knowledge.ingest import ingest  # noqa: E402
from apps.tenants.scoping import unit  # noqa: E402

STEPS = (embedding, fetching, pipeline)


def ingest_and_die(tenant: str, document: str, before: int) -> None:
    done = 0

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        done += 1
        if done == before:
            os.kill(os.getpid(), signal.SIGKILL)
        return await unit(*args, **kwargs)

    for module in STEPS:
        module.unit = counted  # type: ignore[attr-defined]
    ingest(tenant, document)


if __name__ == "__main__":
    for number, name in enumerate(sys.argv[2:], start=1):
        child = os.fork()
        if not child:
            ingest_and_die(sys.argv[1], name, number)
            os._exit(0)
        os.waitpid(child, 0)
