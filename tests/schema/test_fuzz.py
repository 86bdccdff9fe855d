"""schemathesis asks the running product everything that its schema allows, and much that it does not.

No request may end in a 5xx that is not documented, in a status, a body or a header that the schema does not describe;
what the schema forbids must be refused, and what it allows accepted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import ROOT
from tests.journeys.conftest import World, web_process, worker_process

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]
EXAMPLES = os.environ.get("PARLEY_FUZZ_EXAMPLES", "20")  # of each operation; `make fuzz` asks for more


def test_every_answer_is_as_the_schema_says(world: World, tmp_path: Path) -> None:
    with web_process("daphne") as address, worker_process():
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/api/schema"),
                *("--header", f"Authorization: Bearer {world.key}"),
                *("--phases", "examples,coverage,fuzzing,stateful"),
                *("--max-examples", EXAMPLES, "--seed", "1", "--generation-deterministic"),
                *("--request-timeout", "20", "--workers", "2", "--no-color"),
                *(
                    "--exclude-checks",
                    "positive_data_acceptance",
                    "--generation-allow-x00",
                    "false",
                    "--continue-on-failure",
                    "--suppress-health-check",
                    "all",
                ),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
