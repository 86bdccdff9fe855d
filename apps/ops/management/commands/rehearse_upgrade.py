"""`manage.py rehearse_upgrade`: migrates a copy of the database and tells what others would have felt of it."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.ops.rehearsal import OWNER, RehearsalError, Rehearsed, copy_at, rehearse

STOPS = {"AccessExclusive": "reads and writes"}  # the other modes that are told of stop writes alone


class Command(BaseCommand):
    help = (
        "Apply the pending migrations to a copy of the database, and tell of each how long it took, which tables it"
        " locked for how long, what it read or rewrote as a whole, and whether the release before could work beside"
        " it. Exits with 1 where users would notice."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--on", required=True, metavar="URL", help="the copy, as the owner of its tables; it is migrated by this"
        )
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *, on: str, **options: Any) -> None:
        if OWNER not in settings.DATABASES:
            raise CommandError("OWNER_DATABASE_URL is not set, so that a copy cannot be told from what it is one of.")
        tell = (lambda _: None) if options["json"] else self._tell
        try:
            with copy_at(on) as connection:
                rehearsed = rehearse(connection, tell)
        except RehearsalError as error:
            raise CommandError(str(error)) from error
        noticed = any(_noticed(one) for one in rehearsed)
        if options["json"]:
            told = {
                "longest_lock": _longest_lock(),
                "noticed": noticed,
                "migrations": [asdict(one) for one in rehearsed],
            }
            self.stdout.write(json.dumps(told, indent=2))
        elif not rehearsed:
            self.stdout.write("No migration is pending on the copy.")
        elif noticed:
            self.stdout.write(self.style.ERROR("Users would notice what is marked with !."))
        else:
            self.stdout.write(self.style.SUCCESS("Users would notice nothing."))
        if noticed:
            sys.exit(1)

    def _tell(self, one: Rehearsed) -> None:
        self.stdout.write(f"{one.migration:60}{one.seconds:9.2f} s")
        for line, is_bad in _lines(one):
            self.stdout.write(self.style.ERROR(f"  ! {line}") if is_bad else f"    {line}")


def _longest_lock() -> float:
    """In seconds: who waits longer for a table gives up."""
    return float(settings.PARLEY_SQL_TIMEOUT_MS) / 1000


def _noticed(one: Rehearsed) -> bool:
    return any(is_bad for _, is_bad in _lines(one))


def _lines(one: Rehearsed) -> Iterator[tuple[str, bool]]:
    """What there is to tell of it, and whether users would notice that."""
    for lock in one.locks:
        said = f"{lock.mode} on {lock.table} for {lock.seconds:.2f} s, which stops {STOPS.get(lock.mode, 'writes')}"
        yield said, lock.seconds > _longest_lock()
    for each in one.passes:
        yield f"{'rewrote' if each.rewrote else f'read {each.rows:,} rows of'} {each.table}: {each.statement}", False
    for hindrance in one.hindrances:
        fine = f"; {one.reason}" if one.reason else ""
        yield f"the release before beside it: {hindrance}{fine}", not one.reason
