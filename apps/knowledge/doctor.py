"""What documents need: a place for their bytes, readers, and HNSW indexes for those that have many passages."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import redis
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage, storages
from django.db import DatabaseError, connection

from apps.edge import alive
from apps.edge.findings import Finding, fail, ok, warn
from apps.knowledge import reading
from apps.knowledge.bucket import Bucket
from chatbot.recognition import AUTO, TESSERACT

LEAST_FREE_BYTES = 1024**3
# It looks every minute, and meanwhile builds.
SILENT_SECONDS = 300.0
SECONDS = 60.0

# What a reader's process does first. Tesseract may end the process in which it loads a language.
_WALLED_OFF = (
    "import ctypes, os, sys; new = 0x40000000 if os.geteuid() == 0 else 0x50000000;"
    "sys.exit(bool(ctypes.CDLL(None).unshare(new)))"
)
_WARMED_UP = "import sys; from chatbot.readers import tesseract; tesseract.warm_up(sys.argv[1], '')"
# layouts.move_all() holds it, for hours where it builds.
_MOVING = """
    SELECT EXISTS (
        SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 1431519563 AND objid = hashtext('layouts')::oid
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
"""


def storage() -> Iterator[Finding]:
    return _bucket() if isinstance(storages["default"], Bucket) else _disk()


def _bucket() -> Iterator[Finding]:
    try:
        name = default_storage.save(f"doctor/{secrets.token_hex(8)}", ContentFile(b"doctor"))
        with default_storage.open(name) as file:
            file.read()
        default_storage.delete(name)
    except OSError as error:
        advice = "Look at PARLEY_STORAGE_URL, and whether its key may read, write and delete below the prefix."
        yield fail("storage", error.strerror or "The bucket does not answer.", advice)
    else:
        yield ok("storage", "the bucket can be written, read and emptied")


def _disk() -> Iterator[Finding]:
    root = Path(settings.MEDIA_ROOT)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(b"doctor")
    except OSError as error:
        yield fail("storage", f"{root}: {error.strerror}", "Make it writable, or set PARLEY_HOME to another directory.")
        return
    free = shutil.disk_usage(root).free
    said = f"{root} is writable, {free / 1024**3:.1f} GiB free"
    yield ok("storage", said) if free > LEAST_FREE_BYTES else warn("storage", said, "Free at least 1 GiB.")


def scratch() -> Iterator[Finding]:
    """Where uploads arrive, and where readers and workers keep what they are at."""
    root = tempfile.gettempdir()
    free, needed = shutil.disk_usage(root).free, 2 * settings.PARLEY_MAX_UPLOAD_BYTES
    if free < needed:
        said = f"{root} has room for {free / 1024**2:,.0f} MiB"
        yield warn("scratch", said, f"Free {needed / 1024**2:,.0f} MiB, twice PARLEY_MAX_UPLOAD_BYTES, or set TMPDIR.")


def readers() -> Iterator[Finding]:
    """Here, which is where workers run only if this is a worker's container."""
    if _works(_WALLED_OFF):
        yield ok("readers", "have no network")
    else:  # as in most containers, where nobody can change it
        yield ok("readers", "share the network, since namespaces are refused here; they have no rights and little time")
    yield from _recognition()


def _recognition() -> Iterator[Finding]:
    wanted = reading.recognition()
    engine = wanted.found()
    if not engine:
        yield warn(
            "ocr",
            "no text recognition is installed" if wanted.engine == AUTO else f"{wanted.engine} is not installed",
            "Install Tesseract, or requirements/ocr.txt, or scans and images are refused.",
        )
        return
    asked = wanted.languages or ("",) if engine == TESSERACT else ()
    # One by one: of several it does without those that it has not.
    if unknown := [language or "eng" for language in asked if not _works(_WARMED_UP, language)]:
        yield fail(
            "ocr",
            f"Tesseract does not know {', '.join(unknown)}",
            "Install what it lacks (tesseract-ocr-…), or set PARLEY_OCR_LANGUAGES to what is there.",
        )
    else:
        yield ok("ocr", engine)


def _works(program: str, *arguments: str) -> bool:
    command = [sys.executable, "-c", program, *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - programs of ours
            command, cwd=settings.BASE_DIR, check=False, timeout=SECONDS, capture_output=True
        )
    except (subprocess.TimeoutExpired, OSError):
        return False
    return done.returncode == 0


def layouts() -> Iterator[Finding]:
    """Whether somebody looks which tenants need an index."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(_MOVING)
            [moving] = cursor.fetchone()
        since = alive.seconds_since(alive.LAYOUTS)
    except (DatabaseError, redis.RedisError):
        return  # told of above
    finally:
        connection.close()
    if moving:
        yield ok("layouts", "at work")
    elif since is not None and since < SILENT_SECONDS:
        yield ok("layouts", f"worked {since:.0f} s ago")
    else:
        said = "shows no sign of life" if since is None else f"has not looked for {since / 60:.0f} minutes"
        yield warn("layouts", said, "Start it, or searches of large tenants are slow: python -m config.run layouts")
