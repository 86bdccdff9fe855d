"""A worker killed in the middle of a document loses nothing: another one goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from apps.knowledge.embedding import AT_ONCE
from config.celery import app
from tests.environment import Backends
from tests.fakes.inference import Reply
from tests.journeys.conftest import World, kill, web_process, worker_process

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

SECTIONS = 60
MANUAL = "\n\n".join(f"# Part {n}\n\n" + f"Valve {n} opens at {n} bar. " * 30 for n in range(SECTIONS))


def eventually(look: Callable[[], dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What is seen as soon as it is as wanted."""
    deadline = time.monotonic() + 60
    while not wanted(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
    return seen


def test_another_worker_goes_on_where_the_killed_one_was(world: World, servers: Backends) -> None:
    # Half a second each, so that batches stay at their first size; those after the first wait to be told to hurry.
    half_a_second = Reply(kind="embedding", first_delay=0.5)
    world.model.script(half_a_second, replace(half_a_second, lingers_after=0, always=True))
    with (
        web_process("daphne") as base_url,
        httpx.Client(base_url=f"{base_url}/api/v1", headers={"Authorization": f"Bearer {world.key}"}) as http,
    ):
        sent = http.post("/documents", json={"collection": "manuals", "title": "Valves", "text": MANUAL})
        address = f"/documents/{sent.raise_for_status().json()['id']}"

        def document() -> dict[str, Any]:
            seen: dict[str, Any] = http.get(address).raise_for_status().json()
            return seen

        def found() -> set[str]:
            results = http.post("/search", json={"collection": "manuals", "query": "Valve 59"}).json()["results"]
            return {source["title"] for source in results}

        with worker_process() as worker:
            eventually(document, lambda seen: 0 < seen["progress"]["done"] < seen["progress"]["total"])
            kill(worker)
        world.model.hurry()
        at_death = document()
        assert at_death["status"] == "embedding"
        assert found() == {"Manual"}

        # Its lease of a minute runs out and beat looks for such documents: clocks, which the test need not watch.
        servers.superuser.execute(
            "UPDATE knowledge_document SET lease_until = now() - interval '1 second', next_attempt_at = now()"
        )
        with worker_process():
            app.send_task("knowledge.resend_documents")
            ready = eventually(document, lambda seen: seen["status"] in {"ready", "failed"})
        assert (ready["status"], ready["failure"]) == ("ready", None)
        assert ready["passages"] == at_death["progress"]["total"] >= SECTIONS
        assert "Valves" in found()

    batches = [request["payload"]["input"] for request in world.model.requests("/v1/embeddings")]
    batches = [batch for batch in batches if batch[0].startswith("Valves")]
    embedded = [text for batch in batches for text in batch]
    assert len(set(embedded)) == ready["passages"]
    # The batches that were on their way when the worker died are made twice; what was stored is not.
    assert len(embedded) - len(set(embedded)) <= AT_ONCE * max(map(len, batches))
