"""Issue an API key for a tenant and print it, once."""

from __future__ import annotations

import datetime
import uuid
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps.tenants import addresses, audit, keys, lookups, rights
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope


class Command(BaseCommand):
    help = "Issue an API key. Its text goes to standard output alone, and cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, help="slug of the tenant")
        parser.add_argument("--name", default="command line", help="where the key is used")
        parser.add_argument(
            "--scope", dest="scopes", action="append", choices=sorted(rights.ALL), help="repeatable; all if left out"
        )
        parser.add_argument(
            "--assistant",
            dest="assistants",
            action="append",
            help="slug; repeatable; may ask all if left out",
        )
        parser.add_argument(
            "--ip", dest="ranges", action="append", help="address or range it may come from; repeatable"
        )
        parser.add_argument("--days", type=int, help="days until it expires; never if left out")
        parser.add_argument("--service-account", help="the program that it belongs to; its name if left out")

    def handle(self, *, tenant: str, name: str, days: int | None, service_account: str | None, **options: Any) -> None:
        found = lookups.find_tenant(tenant)
        if found is None:
            raise CommandError(f"There is no tenant {tenant!r}.")
        if days is not None and days < 1:
            raise CommandError("--days must be at least 1.")
        with tenant_scope(found):
            row, text = keys.issue(
                found,
                name=name,
                scopes=options["scopes"] or rights.ALL,
                service_account=keys.service_account(found, service_account or name),
                expires_at=timezone.now() + datetime.timedelta(days=days) if days else None,
                assistant_ids=[_assistant(found, slug) for slug in options["assistants"] or ()],
                ip_ranges=_ranges(options["ranges"] or ()),
            )
            audit.record(found, "key.issued", audit.actor_of_command("issue_key"), row, scopes=row.scopes)
        self.stdout.write(text)


def _assistant(tenant: Tenant, slug: str) -> uuid.UUID:
    # Of an upper app, so by name.
    assistants = apps.get_model("assistants.Assistant")._default_manager
    found: uuid.UUID | None = assistants.filter(tenant=tenant, slug=slug).values_list("pk", flat=True).first()
    if found is None:
        raise CommandError(f"{tenant} has no assistant {slug!r}.")
    return found


def _ranges(texts: Sequence[str]) -> list[str]:
    try:
        return [addresses.ip_range(text) for text in texts]
    except ValueError as error:
        raise CommandError(f"--ip {error}") from error
