"""Reads docker-compose.yml as Docker does, as far as ours goes: variables put in, services by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tests.environment import ROOT

FILE = ROOT / "docker-compose.yml"
TEXT = FILE.read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<rest>[^}]*))?\}")


def variables() -> Iterator[tuple[str, str | None, bool]]:
    """Each `${NAME}` in the file: name, default, whether it is required."""
    for found in _VARIABLE.finditer(TEXT):
        kind = found["kind"]
        yield found["name"], found["rest"] if kind == ":-" else None, kind == ":?"


def passed_on() -> set[str]:
    """The names without a value: taken from .env as they are."""
    return {name for one in SERVICES.values() for name, value in one.get("environment", {}).items() if value is None}


def filled(value: Any, env: Mapping[str, str]) -> Any:
    """A value of the file with variables put in. Raises KeyError for a required one that is missing."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _value(found, env), value)
    if isinstance(value, list):
        return [filled(part, env) for part in value]
    return value


def _value(found: re.Match[str], env: Mapping[str, str]) -> str:
    if found["kind"] == ":-":
        return env.get(found["name"]) or found["rest"]
    return env[found["name"]]


def environment(service: str, env: Mapping[str, str]) -> dict[str, str]:
    """What a service finds in its environment, where .env says `env`."""
    given = SERVICES[service]["environment"]
    taken = {name: env.get(name) if value is None else filled(value, env) for name, value in given.items()}
    return {name: str(value) for name, value in taken.items() if value is not None}
