"""The process itself: its release, its packages, its settings, what it hands out and by whom it mails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import redis
from django.conf import settings
from django.core.mail import get_connection
from packaging.version import Version

from apps.edge.findings import Finding, fail, ok, warn
from apps.ops import checks
from apps.widget import bundle

LEAST_PYTHON = (3, 11)
# Below these are known holes that reach Parley.
LEAST_PACKAGES = {"Django": "5.2.14", "celery": "5.2.2"}
BROKEN_REDIS_CLIENT = Version("8.0.0")


def parley() -> Iterator[Finding]:
    yield ok("parley", settings.VERSION)


def python() -> Iterator[Finding]:
    running = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < LEAST_PYTHON:
        yield fail("python", running, "Install Python 3.11 or newer.")
    else:
        yield ok("python", running)


def packages() -> Iterator[Finding]:
    """Against the lock file and against known holes."""
    pins = _pins(settings.BASE_DIR / "requirements" / "base.txt")
    wrong = [f"{name} {_installed(name) or 'missing'} (locked {pin})" for name, pin in pins if _installed(name) != pin]
    if wrong:
        listed = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        yield warn("packages", f"not as locked: {listed}", "Install requirements/base.txt with its hashes.")
    else:
        yield ok("packages", f"{len(pins)} as locked, Django {_installed('Django')}")
    for name, least in LEAST_PACKAGES.items():
        if Version(_installed(name) or "0") < Version(least):
            yield fail("packages", f"{name} {_installed(name)}", f"Install {name} {least} or newer: security fixes.")
    if Version(redis.__version__) == BROKEN_REDIS_CLIENT:
        yield fail("packages", "redis 8.0.0", "Install another release: this one breaks blocking reads.")


def _pins(lock: Path) -> list[tuple[str, str]]:
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.exists() else []
    pinned = (line.split(" ")[0].split("==") for line in lines if "==" in line and line[:1].isalnum())
    return [(name.partition("[")[0], pin.rstrip("\\").strip()) for name, pin in pinned]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def contradictions() -> Iterator[Finding]:
    """Settings that the start lets pass, since they can be meant."""
    found = [*checks.behind_a_proxy(), *checks.shared_folder()]
    for message in found:
        yield warn("settings", str(message.msg), str(message.hint))
    if not found:
        yield ok("settings", "do not contradict one another")


def static_files() -> Iterator[Finding]:
    if not settings.LOCAL and not (Path(settings.STATIC_ROOT) / "staticfiles.json").exists():
        yield fail("static", "not collected: the admin's pages fail", "Run manage.py collectstatic --no-input.")


def widget() -> Iterator[Finding]:
    if bundle.is_there():
        yield ok("widget", "built")
    else:
        yield warn("widget", "the built files in static/widget/ are missing or not whole", bundle.MISSING)


def mail() -> Iterator[Finding]:
    """Connects and logs in; sends nothing."""
    if not settings.PARLEY_MAIL:
        yield warn("mail", "off", "Set EMAIL_URL, or forgotten passwords are for an operator to mend.")
        return
    try:
        with get_connection():
            yield ok("mail", f"{settings.EMAIL_HOST or settings.EMAIL_BACKEND.split('.')[-2]} takes us")
    except OSError as error:  # smtplib's errors are such
        yield fail("mail", str(error), "Check EMAIL_URL, and that the server runs.")
