"""The built widget in static/widget/: its loader, and which file its app is."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import orjson
from django.conf import settings

DIRECTORY = settings.BASE_DIR / "static" / "widget"
MISSING = "The widget was not built: static/widget/ lacks loader.js or manifest.json. Take them from the release."
_FILE = re.compile(r"[A-Za-z0-9._-]+\.js")
_INTEGRITY = re.compile(r"sha(256|384|512)-[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, slots=True)
class App:
    """address: below our own origin. integrity: as an element's attribute has it."""

    address: str
    integrity: str


@dataclass(frozen=True, slots=True)
class Loader:
    script: bytes
    etag: str


def app() -> App | None:
    """None where the bundle is missing."""
    return _app(DIRECTORY, _changed(DIRECTORY / "manifest.json"))


def loader() -> Loader | None:
    return _loader(DIRECTORY, _changed(DIRECTORY / "loader.js"))


def is_there() -> bool:
    return app() is not None and loader() is not None


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=4)
def _app(directory: Path, changed: int) -> App | None:
    try:
        said = orjson.loads((directory / "manifest.json").read_bytes())["app"]
        file, integrity = str(said["file"]), str(said["integrity"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not _FILE.fullmatch(file) or not _INTEGRITY.fullmatch(integrity) or not (directory / file).is_file():
        return None
    return App(f"{settings.PARLEY_STATIC_PATH}widget/{file}", integrity)


@lru_cache(maxsize=4)
def _loader(directory: Path, changed: int) -> Loader | None:
    try:
        script = (directory / "loader.js").read_bytes()
    except OSError:
        return None
    return Loader(script, f'"{hashlib.sha256(script).hexdigest()[:32]}"')
