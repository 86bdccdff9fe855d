"""Prove that the counters of quotas say what the ledger says."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError

from apps.tenants import lookups
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage.reconciling import reconcile


class Command(BaseCommand):
    help = (
        "Compare each counter in Redis with the ledger, and tell where they differ; the exit status is 1 then, unless"
        " all was repaired."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", help="slug of the tenant; left out, all are compared")
        parser.add_argument("--repair", action="store_true", help="make the counters say what the ledger says")

    def handle(self, *, tenant: str | None, repair: bool, **_: Any) -> None:
        named = lookups.tenant_named(tenant) if tenant else None
        if tenant and named is None:
            raise CommandError(f"There is no tenant {tenant!r}.")
        checked = differ = 0
        for tenant_id in [named] if named else lookups.all_tenants():
            with tenant_scope(tenant_id):
                row = Tenant.objects.get(pk=tenant_id)
            found = async_to_sync(reconcile)(row, repair=repair)
            checked += found.checked
            differ += len(found.differ)
            for one in found.differ:
                self.stdout.write(
                    f"{row.slug}  {one.counter.name}: {one.counted:,} counted, {one.ledger:,} in the ledger"
                )
        self.stdout.write(f"{checked} counters, {differ} of them differ" + (", repaired" if repair and differ else ""))
        if differ and not repair:
            raise CommandError("Run it with --repair to make them say what the ledger says.")
