"""Brings database, static files and demo up to date in one Django process, since each would cost a start-up of its own.

Run by the supervisor: it waits for a line on standard input, which comes when the servers answer; makes the file named
by its argument when web and worker may start; and ends when the quick start can be searched.
"""

from __future__ import annotations

import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.management import CommandError, call_command


def main() -> None:
    django.setup()
    if not sys.stdin.readline():
        return  # the supervisor gave up
    try:
        call_command("setup_database")
        _collect_static()
        call_command("create_demo")
        Path(sys.argv[1]).touch()
        call_command("create_demo", wait=True)
    except CommandError as error:
        sys.exit(str(error))


def _collect_static() -> None:
    """Hashing every file of every app takes seconds: done only when one of ours, or the environment, is newer."""
    manifest = Path(settings.STATIC_ROOT) / "staticfiles.json"
    sources = [
        Path(sys.prefix) / ".base",
        *(path for root in settings.STATICFILES_DIRS for path in Path(root).rglob("*")),
    ]
    newest = max((path.stat().st_mtime for path in sources if path.exists()), default=0.0)
    if not manifest.exists() or manifest.stat().st_mtime <= newest:
        print("Collecting static files", flush=True)
        call_command("collectstatic", interactive=False, verbosity=0)


if __name__ == "__main__":
    main()
