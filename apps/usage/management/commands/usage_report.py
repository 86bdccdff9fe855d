"""Print what tenants used in a period, as a table for people or as CSV or JSON for programs."""

from __future__ import annotations

import datetime as dt
import json
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps.tenants import lookups
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage.export import MAX_ROWS, csv_of, head, table
from apps.usage.keeping import kept
from apps.usage.limit_use import in_use
from apps.usage.management.days import day
from apps.usage.refusals import in_its_unit, of_bytes, shown
from apps.usage.reports import GROUPS, add_up

DEFAULT_DAYS = 30
MAX_DAYS = 366
LIMITS = ("tenant", "limit", "of whom", "used", "amount", "share", "until")


class Command(BaseCommand):
    help = "Report usage: requests, tokens, bills and cost, in whole days of each tenant's time zone."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", help="slug of the tenant; each of them if left out")
        parser.add_argument(
            "--from",
            dest="first",
            type=day,
            help=f"first day, like 2026-03-01; {DEFAULT_DAYS} days up to the last one if left out",
        )
        parser.add_argument("--to", dest="last", type=day, help="last day, included; today if left out")
        parser.add_argument("--by", choices=("tenant", *GROUPS), default="day", help="what it is added up by")
        parser.add_argument("--limits", action="store_true", help="instead of a period, what is used of each limit now")
        parser.add_argument("--format", choices=("table", "csv", "json"), default="table")

    def handle(self, *, tenant: str | None, by: str, **options: Any) -> None:
        found = [lookups.find_tenant(tenant)] if tenant else [_tenant(each) for each in lookups.all_tenants()]
        tenants = [each for each in found if each is not None]
        if tenant and not tenants:
            raise CommandError(f"There is no tenant {tenant!r}.")
        if options["limits"]:
            self.stdout.write(_aligned([LIMITS, *(line for each in tenants for line in _limits(each))]), ending="")
            return
        groups = [group for each in tenants for group in _groups(each, by, options["first"], options["last"])]
        slugs = {str(each.pk): each.slug for each in tenants}
        if options["format"] == "json":
            told = [{"tenant": slugs[str(group.pop("tenant_id"))], **group} for group in groups]
            self.stdout.write(json.dumps(told, default=str, indent=2))
            return
        lines = [head(by, slugs), *table(groups, slugs)]
        text = csv_of(lines) if options["format"] == "csv" else _aligned(lines)
        self.stdout.write(text, ending="")
        if options["format"] == "table":
            for each in tenants:
                with tenant_scope(each):
                    now = kept(each)
                self.stdout.write(f"{each.slug} keeps {now.documents:,} documents, {of_bytes(now.bytes)}")


def _tenant(tenant_id: Any) -> Tenant | None:
    with tenant_scope(tenant_id):
        return Tenant.objects.filter(pk=tenant_id).first()


def _limits(tenant: Tenant) -> Iterator[Sequence[str]]:
    """What is used most of comes first."""
    with tenant_scope(tenant):
        for use in in_use(tenant):
            limit, until = use.limit, use.until and use.until.astimezone(ZoneInfo(tenant.time_zone))
            used, amount = (shown(limit.metric, in_its_unit(limit, each)) for each in (use.used, limit.amount))
            yield (
                tenant.slug,
                limit.name,
                use.subject,
                used,
                amount,
                f"{use.share:.0%}",
                f"{until:%F %R}" if until else "",
            )


def _groups(tenant: Tenant, by: str, first: dt.date | None, last: dt.date | None) -> list[dict[str, Any]]:
    """Raises CommandError for a period that is none."""
    last = last or timezone.now().astimezone(ZoneInfo(tenant.time_zone)).date()
    first = first or last - dt.timedelta(days=DEFAULT_DAYS - 1)
    if not 0 <= (last - first).days < MAX_DAYS:
        raise CommandError(f"A period has between 1 and {MAX_DAYS} days.")
    with tenant_scope(tenant):
        groups = add_up(tenant, first, last, by, most=MAX_ROWS).groups
    return [{**group, "tenant_id": tenant.pk} for group in groups]


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Texts to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(
            text.ljust(width) if place < 3 else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in lines
    )
