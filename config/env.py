"""Reads the environment; what is missing or wrong stops the start with a sentence that names it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import environ

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()


def read_files() -> None:
    """Take `.env`, and the file that `make up` wrote, for what the environment itself does not set."""
    home = Path(os.environ.get("PARLEY_HOME", BASE_DIR / "var"))
    for path in (BASE_DIR / ".env", home / "env"):
        if path.is_file():
            environ.Env.read_env(path)


def refuse(sentence: str) -> NoReturn:
    """Stop the process: a wrong setting is for a person to mend, so no traceback."""
    sys.exit(f"Parley cannot start: {sentence}")


def required(name: str, meaning: str, *, least: int = 1) -> str:
    """The value of `name`, at least `least` characters long."""
    value = os.environ.get(name, "")
    if not value:
        refuse(f"{name} is not set. It is {meaning}.")
    if len(value) < least:
        refuse(f"{name} is shorter than {least} characters. It is {meaning}.")
    return value


def number(name: str, default: int, *, least: int = 0) -> int:
    """A whole number from the environment."""
    raw = os.environ.get(name, "")
    if not raw:
        return default
    if not raw.strip().isascii() or not raw.strip().isdigit() or int(raw) < least:
        refuse(f"{name} must be a whole number of at least {least}, but is {raw!r}.")
    return int(raw)


def choice(name: str, default: str, *allowed: str) -> str:
    value = os.environ.get(name, default)
    if value not in allowed:
        refuse(f"{name} must be one of {', '.join(allowed)}, but is {value!r}.")
    return value
