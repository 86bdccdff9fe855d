"""schemathesis asks the running product everything that its schema allows, and much that it does not.

No request may end in a 5xx that is not documented, in a status, a body or a header that the schema does not describe;
what the schema forbids must be refused, and what it allows accepted.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.environment import ROOT
from tests.journeys.conftest import World, manage, web_process, worker_process
from tests.schema.test_document import DOCUMENT, OPERATIONS

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]
# A sweep asks more of each operation, and something else each time: PARLEY_FUZZ_EXAMPLES=500.
SWEEP = os.environ.get("PARLEY_FUZZ_EXAMPLES")
EXAMPLES = ["--max-examples", SWEEP] if SWEEP else ["--max-examples", "20", "--generation-deterministic"]


OPTIONS = [
    *("--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure"),
    # What is valid may still be refused: a name that is taken, a day too far away.
    *("--exclude-checks", "positive_data_acceptance"),
    # tests/abuse sends NUL bytes everywhere; a schema has no words for "any text without them".
    *("--generation-allow-x00", "false"),
    # One worker: two that parse Python at once confuse CPython 3.11 ("AST constructor recursion depth mismatch").
    *("--suppress-health-check", "all", "--request-timeout", "20", "--workers", "1", "--no-color"),
]


def sweep(address: str, key: str, where: Path, *options: str, **environment: str) -> int:
    """How many operations were tested; fails where an answer is not as it should be."""
    program = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/api/schema"]
    done = subprocess.run(
        [*program, "--header", f"Authorization: Bearer {key}", *OPTIONS, *options],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.schema.media", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested, done.stdout
    return int(tested[1])


def test_every_answer_is_as_the_schema_says(world: World, tmp_path: Path) -> None:
    with web_process("daphne") as address, worker_process():
        assert sweep(address, world.key, tmp_path, *EXAMPLES) == len(OPERATIONS)


def test_no_id_of_another_tenant_is_accepted(world: World, tmp_path: Path) -> None:
    about_one = [path for path in DOCUMENT["paths"] if "_id}" in path or "{key}" in path]
    with web_process("daphne") as address:
        ids = ids_of(address, world.key)
        manage("create_tenant", "globex")
        stranger = manage("issue_key", "--tenant", "globex").strip()
        few = ["--max-examples", SWEEP or "5", "--generation-deterministic", "--include-path-regex", r"_id\}|\{key\}"]
        hooks = {"SCHEMATHESIS_HOOKS": "tests.schema.foreign_ids", "FOREIGN_IDS": json.dumps(ids)}
        tested = sweep(address, stranger, tmp_path, *few, **hooks)
        assert tested == sum(len(DOCUMENT["paths"][path]) for path in about_one)
        assert ids_still_there(address, world.key, ids)


def ids_of(address: str, key: str) -> dict[str, str]:
    """One of each kind, of the tenant whose key this is."""
    with httpx.Client(base_url=f"{address}/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30) as http:
        conversation = http.post("/conversations", json={"assistant": "guide"}).raise_for_status().json()["id"]
        turn = http.post(f"/conversations/{conversation}/turns", json={"text": "pump?"}).raise_for_status().json()
        # Made here: what the world began with, the other sweep may have deleted.
        collection = http.post("/collections", json={"name": "Of acme"}).raise_for_status().json()
        text = {"collection": collection["slug"], "title": "Pump", "text": "Prime the pump."}
        document = http.post("/documents", json=text).raise_for_status().json()
        site = {"collection": collection["slug"], "kind": "site", "location": "https://site.example/"}
        where = base64.b64encode(collection["slug"].encode()).decode()
        announced = {"Upload-Length": "10", "Upload-Metadata": f"collection {where},filename eC5tZA=="}
        hook = {"name": "x", "url": "https://r.example/", "events": ["turn.finished"]}
        return {
            "conversation_id": conversation,
            "turn_id": turn["id"],
            "message_id": turn["answer"]["id"],
            "key": collection["id"],
            "document_id": document["id"],
            "source_id": http.post("/sources", json=site).raise_for_status().json()["id"],
            "upload_id": http.post("/uploads", headers=announced).raise_for_status().json()["id"],
            "webhook_id": http.post("/webhooks", json=hook).raise_for_status().json()["id"],
        }


def ids_still_there(address: str, key: str, ids: dict[str, str]) -> bool:
    paths = ("conversations/{conversation_id}", "turns/{turn_id}", "collections/{key}", "documents/{document_id}")
    with httpx.Client(base_url=f"{address}/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30) as http:
        found = [
            http.get("/" + path.format(**ids)).status_code
            for path in (*paths, "webhooks/{webhook_id}", "sources/{source_id}", "uploads/{upload_id}")
        ]
    return found == [200] * 7
