"""What schemathesis loads in test_fuzz: each id in an address is another tenant's, and none may be accepted."""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis

from tests.schema import media as media  # noqa: PLC0414 - loaded as well

# By the parameter's name.
FOREIGN: dict[str, str] = json.loads(os.environ["FOREIGN_IDS"])


@schemathesis.hook
def map_path_parameters(_context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: FOREIGN.get(name, value) for name, value in (path_parameters or {}).items()}


@schemathesis.check
def no_foreign_id_is_accepted(_context: Any, response: Any, case: Any) -> None:
    named = {name for name, value in (case.path_parameters or {}).items() if FOREIGN.get(name) == str(value)}
    if named and response.status_code < 400:
        raise AssertionError(f"{case.operation.label} accepted another tenant's {', '.join(named)}.")
