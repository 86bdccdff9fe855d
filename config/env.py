"""Reads the environment; what is missing or wrong stops the start with a sentence that names it.

Each variable is declared once, by the call that reads it: `python -m config.reference` makes docs/configuration.md and
.env.example out of `sections`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import parseaddr
from pathlib import Path
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

import environ
from cryptography.fernet import Fernet

BASE_DIR = Path(__file__).resolve().parent.parent
ENV_FILE = BASE_DIR / ".env"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

POSTGRES = ("postgres", "postgresql")
REDIS = ("redis", "rediss", "unix")

_WORDS = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}
_HOST = re.compile(r"\*|\.?[\w-]+(\.[\w-]+)*\.?|\[?[0-9a-fA-F:]+\]?", re.ASCII)


@dataclass(frozen=True)
class Variable:
    """name, and what docs/configuration.md says of it. default: as people read it; None where it is required."""

    name: str
    meaning: str
    default: str | None = None


@dataclass
class Section:
    title: str
    introduction: str
    variables: list[Variable] = field(default_factory=list)


sections: list[Section] = []


def section(title: str, introduction: str = "") -> None:
    """Begin a section of the reference: the variables read from here on stand in it."""
    sections.append(Section(title, introduction))


def declare(name: str, meaning: str, default: str | None) -> None:
    sections[-1].variables.append(Variable(name, meaning, default))


def read_files(instead: Path | None = None) -> None:
    """Take `.env`, and the file that `make up` wrote, for what the environment itself does not set.

    instead: a file that takes the place of `.env` in this process.
    """
    global ENV_FILE  # noqa: PLW0603 - the settings, which load later, shall read the same one
    ENV_FILE = instead or ENV_FILE
    _read_file(ENV_FILE)
    # The secrets and the demo of `make up` are for one machine alone: whoever says production gets none of them.
    if os.environ.get("PARLEY_ENV") != "production":
        _read_file(Path(os.environ.get("PARLEY_HOME") or BASE_DIR / "var") / "env")


def _read_file(path: Path) -> None:
    try:
        if path.is_file():
            environ.Env.read_env(path)
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{path} cannot be read ({error}).")


def refuse(sentence: str) -> NoReturn:
    """Stop the process: a wrong setting is for a person to mend, so no traceback."""
    sys.exit(f"Parley cannot start: {sentence}")


def _value(name: str) -> str:
    """What the environment says; empty where it says nothing."""
    value = os.environ.get(name, "").strip()
    if not value.isprintable():
        refuse(f"{name} holds characters that cannot be read.")
    return value


def same(value: str, default: str | None) -> bool:
    """Whether a variable that is set to `value` says what it says by default: no, false and 0 are off."""
    words: dict[str, object] = {**_WORDS}
    return default is not None and words.get(value.lower(), value) == words.get(default, default)


# --- Readers: each names the variable, what counts without it, and what it means --------------------------------------


def required(name: str, meaning: str, *, least: int = 1) -> str:
    """The value of `name`, at least `least` characters long."""
    declare(name, meaning, None)
    value = _value(name)
    if not value:
        refuse(f"{name} is not set. {meaning}")
    if len(value) < least:
        refuse(f"{name} is shorter than {least} characters. {meaning}")
    return value


def text(name: str, default: str, meaning: str, *, says: str = "") -> str:
    """says: the default as people read it, where it follows from something else."""
    declare(name, meaning, says or default or "none")
    return _value(name) or default


def names(name: str, default: Sequence[str] | None, meaning: str, *, says: str = "") -> list[str]:
    """What stands between the commas; required where the default is None."""
    declare(name, meaning, None if default is None else says or ",".join(default) or "none")
    found = [part.strip() for part in _value(name).split(",") if part.strip()] or default
    return refuse(f"{name} is not set. {meaning}") if found is None else list(found)


def hosts(name: str, default: Sequence[str] | None, meaning: str, *, says: str = "") -> list[str]:
    """Host names or addresses, without a scheme, a port or a path."""
    found = names(name, default, meaning, says=says)
    for host in found:
        if not _HOST.fullmatch(host):
            refuse(f"{name} lists host names alone, without http://, port or path, but holds {host!r}.")
    return found


def networks(name: str, meaning: str, *, says: str = "") -> list[Network]:
    """Addresses, or networks such as 10.0.0.0/8."""
    found = []
    for part in names(name, [], meaning, says=says):
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError:
            refuse(f"{name} lists addresses and networks such as 10.0.0.0/8, but holds {part!r}.")
    return found


def number(name: str, default: int, meaning: str, *, least: int = 0, most: int = 2**31 - 1, says: str = "") -> int:
    """A whole number from the environment."""
    declare(name, meaning, says or str(default))
    raw = _value(name)
    if not raw:
        return default
    # Longer ones Python would refuse to read at all.
    if not raw.isascii() or not raw.isdigit() or len(raw) > 20 or not least <= int(raw) <= most:
        refuse(f"{name} must be a whole number from {least} to {most}, but is {raw!r}.")
    return int(raw)


def flag(name: str, default: bool, meaning: str, *, says: str = "") -> bool:
    """on or off. Anything else is refused: Django's own way of reading takes a misspelt `true` for off."""
    declare(name, meaning, says or ("on" if default else "off"))
    raw = _value(name).lower()
    if raw and raw not in _WORDS:
        refuse(f"{name} must be on or off, but is {raw!r}.")
    return _WORDS[raw] if raw else default


def choice(name: str, default: str, meaning: str, *allowed: str, says: str = "") -> str:
    declare(name, meaning, says or default)
    value = _value(name) or default
    if value not in allowed:
        refuse(f"{name} must be one of {', '.join(allowed)}, but is {value!r}.")
    return value


def url(name: str, meaning: str, *, schemes: tuple[str, ...], default: str | None = None, says: str = "") -> str:
    """An address, required without a default. What is wrong with one is told without repeating it: it may hold a
    password."""
    declare(name, meaning, says or default or "none" if default is not None else None)
    value = _value(name)
    if not value:
        return default if default is not None else refuse(f"{name} is not set. {meaning}")
    parts = _parts(value)
    if parts is None or parts.scheme not in schemes or not (parts.netloc or parts.path.strip("/")):
        refuse(f"{name} is not an address that begins with {schemes[0]}://. {meaning}")
    if parts.scheme in REDIS[:2] and not (parts.path.strip("/") or "0").isdecimal():
        refuse(f"{name} does not end in the number of a Redis database. {meaning}")
    return value


def _parts(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value)
        if "," not in parts.netloc:  # PostgreSQL takes several hosts
            parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        return None
    return parts


def origin(name: str, default: str, meaning: str, *, says: str = "") -> SplitResult:
    """http:// or https://, a host, perhaps a port, and nothing else."""
    value = url(name, meaning, schemes=("https", "http"), default=default, says=says).rstrip("/")
    parts = _parts(value)
    if parts is None or not parts.hostname or value != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc:
        refuse(f"{name} must be https:// and a host, and a port where it needs one, but is {value!r}.")
    return parts


def address(name: str, meaning: str) -> tuple[str, int] | None:
    """The host and port to listen on; None where nothing is set."""
    value = text(name, "", meaning)
    host, _, port = value.rpartition(":")
    if not value:
        return None
    if not host or not port.isdecimal() or not 0 < int(port[:6]) < 2**16:
        refuse(f"{name} must be a host and a port such as 127.0.0.1:9464, but is {value!r}.")
    return host.strip("[]"), int(port)


def fernet_keys(name: str, meaning: str) -> list[str]:
    """A keyring, newest key first: from the file that `<name>_FILE` names, or else from `name` itself."""
    declare(name, meaning, None)
    file = text(f"{name}_FILE", "", f"A file with the same, a key a line, which then goes before `{name}`.")
    source = f"{name}_FILE" if file else name
    keys = re.split(r"[,\n]", _content(source, file) if file else _value(name))
    keys = [key.strip() for key in keys if key.strip()]
    if not keys:
        refuse(f"{source} {'names an empty file' if file else 'is not set'}. {meaning}")
    try:
        for key in keys:
            Fernet(key)
    except ValueError:
        refuse(f"{source} holds something that is not a Fernet key (32 bytes in URL-safe base64). {meaning}")
    return keys


def _content(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{name} names {path}, which cannot be read ({type(error).__name__}).")


def mailbox(name: str, default: str, meaning: str, *, says: str = "") -> str:
    """An e-mail address, perhaps with a name before it."""
    value = text(name, default, meaning, says=says)
    if value == default:
        return value
    address = parseaddr(value)[1]
    local, _, domain = address.rpartition("@")
    if not local or not domain or " " in address:
        refuse(f"{name} must be an e-mail address, such as Parley <parley@example.com>, but is {value!r}.")
    return value
