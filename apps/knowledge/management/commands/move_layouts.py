"""Builds and drops HNSW indexes as embedding indexes grow and shrink."""

from __future__ import annotations

import signal
import time
from argparse import ArgumentParser
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from apps.edge import alive
from apps.knowledge import layouts

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = (
        "Give each embedding index the layout that fits its size, as the process `layouts` does every minute. Needs"
        " OWNER_DATABASE_URL."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--every", type=float, metavar="SECONDS", help="go on until told to end")

    def handle(self, *, every: float | None, **_: Any) -> None:
        if layouts.OWNER not in settings.DATABASES:
            raise CommandError("OWNER_DATABASE_URL is not set: only the owner of the tables can build indexes.")
        if every is None:
            self._once()
            return
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # which ends a build, too
        try:
            while True:
                self._round()
                time.sleep(every)
        except KeyboardInterrupt:
            return

    def _round(self) -> None:
        try:
            layouts.move_all()
            alive.note(alive.LAYOUTS)
        except DatabaseError as error:
            log.warning("layouts.not_moved", error=type(error).__name__)
        finally:
            connections.close_all()

    def _once(self) -> None:
        moved = layouts.move_all()
        if moved is None:
            raise CommandError("Another process is moving layouts just now.")
        for layout in moved:
            self.stdout.write(f"{layout.index_id}  {layout.state}")
        self.stdout.write(f"{len(moved)} layouts changed")
