"""`manage.py export_tenant`: what a tenant has, to hand over."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.ops.archive import BackupError
from apps.ops.export import export_tenant
from apps.tenants import audit
from apps.tenants.lookups import find_tenant


class Command(BaseCommand):
    help = (
        "Write a tenant's rows as lines of JSON, and its files, while Parley runs. Keys, tokens and other secrets are"
        " left out; the manifest names each."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--to", type=Path, required=True, metavar="DIR|FILE.tar", help="what is not there yet")

    def handle(self, *, slug: str, to: Path, **_: Any) -> None:
        tenant = find_tenant(slug)
        if tenant is None:
            raise CommandError(f"There is no tenant {slug!r}.")
        try:
            made = export_tenant(tenant, to)
        except BackupError as error:
            raise CommandError(str(error)) from error
        audit.record(tenant, "tenant.exported", audit.actor_of_command("export_tenant"), tenant, rows=made.rows)
        for name in made.missing:
            self.stderr.write(self.style.WARNING(f"Gone before it could be copied: {name}"))
        self.stdout.write(self.style.SUCCESS(f"{made.path}: {made.rows} rows and {made.files} files of {tenant.slug}."))
