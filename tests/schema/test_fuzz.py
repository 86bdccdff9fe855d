"""schemathesis asks the running product everything that its schema allows, and much that it does not.

No request may end in a 5xx that is not documented, in a status, a body or a header that the schema does not describe;
what the schema forbids must be refused, and what it allows accepted.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import ROOT
from tests.journeys.conftest import World, web_process, worker_process
from tests.schema.test_document import OPERATIONS

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
    *("--suppress-health-check", "all", "--request-timeout", "20", "--workers", "2", "--no-color"),
]


def test_every_answer_is_as_the_schema_says(world: World, tmp_path: Path) -> None:
    with web_process("daphne") as address, worker_process():
        program = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/api/schema"]
        done = subprocess.run(
            [*program, "--header", f"Authorization: Bearer {world.key}", *OPTIONS, *EXAMPLES],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested, done.stdout
    assert int(tested[1]) == len(OPERATIONS)
