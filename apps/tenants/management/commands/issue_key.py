"""Issue an API key for a tenant and print it, once."""

from __future__ import annotations

import datetime
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps.tenants import audit, keys, lookups, rights
from apps.tenants.scoping import tenant_scope


class Command(BaseCommand):
    help = "Issue an API key. Its text goes to standard output alone, and cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, help="slug of the tenant")
        parser.add_argument("--name", default="command line", help="where the key is used")
        parser.add_argument("--days", type=int, help="days until it expires; never if left out")

    def handle(self, *, tenant: str, name: str, days: int | None, **options: Any) -> None:
        found = lookups.find_tenant(tenant)
        if found is None:
            raise CommandError(f"There is no tenant {tenant!r}.")
        if days is not None and days < 1:
            raise CommandError("--days must be at least 1.")
        expires_at = timezone.now() + datetime.timedelta(days=days) if days else None
        with tenant_scope(found):
            account = keys.service_account(found, name)
            row, text = keys.issue(found, name=name, scopes=rights.ALL, service_account=account, expires_at=expires_at)
            audit.record(found, "key.issued", audit.actor_of_command("issue_key"), row, scopes=row.scopes)
        self.stdout.write(text)
