"""Add the ledger up by day, as the worker does every ten minutes; or anew, whatever was added up before."""

from __future__ import annotations

import datetime as dt
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.tenants import lookups
from apps.usage import rollups
from apps.usage.management.days import day


class Command(BaseCommand):
    help = "Roll usage up. With --from and --to these days are added up anew; the ledger is never changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", help="slug of the tenant; all of them if left out")
        parser.add_argument("--from", dest="first", type=day, help="first day, like 2026-03-01")
        parser.add_argument("--to", dest="last", type=day, help="last day, included")

    def handle(self, *, tenant: str | None, first: dt.date | None, last: dt.date | None, **_: Any) -> None:
        if (first is None) != (last is None):
            raise CommandError("Give both --from and --to, or neither.")
        only = lookups.tenant_named(tenant) if tenant else None
        if tenant and only is None:
            raise CommandError(f"There is no tenant {tenant!r}.")
        if first is None or last is None:
            days = rollups.roll_up(seconds=float("inf"), only=only)
        elif first > last:
            raise CommandError("--from is later than --to.")
        else:
            days = sum(rollups.rebuild(each, first, last) for each in ([only] if only else lookups.all_tenants()))
        self.stdout.write(f"Rolled up {days} {'day' if days == 1 else 'days'}.")
