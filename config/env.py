"""Reads the environment; what is missing or wrong stops the start with a sentence that names it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import environ
from cryptography.fernet import Fernet

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


def url(name: str, meaning: str, *, schemes: tuple[str, ...]) -> str:
    """An address. What is wrong with one is told without repeating it, since it holds a password."""
    value = required(name, meaning)
    parts = urlsplit(value)
    if parts.scheme not in schemes or not (parts.netloc or parts.path.strip("/")):
        refuse(f"{name} is not an address that begins with {schemes[0]}://. It is {meaning}.")
    return value


def fernet_keys(name: str, meaning: str) -> list[str]:
    """A keyring, newest key first."""
    keys = [key.strip() for key in required(name, meaning).split(",")]
    try:
        for key in keys:
            Fernet(key)
    except ValueError:
        refuse(f"{name} holds something that is not a Fernet key (32 bytes in URL-safe base64). It is {meaning}.")
    return keys


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
