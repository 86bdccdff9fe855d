"""Explain how the answer to a question came about."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.conversations.explaining import told, turn_of
from apps.tenants import lookups
from apps.tenants.scoping import tenant_scope


class Command(BaseCommand):
    help = (
        "Explain a turn: which model servers were considered and why this one answered, how long the question waited in"
        " line, what was tried, the prompt version, the passages and the tokens."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("turn", help="id of the turn, or of the request that asked it, as logs and errors name it")
        parser.add_argument("--tenant", help="slug of the tenant; left out, all are searched")

    def handle(self, *, turn: str, tenant: str | None, **_: Any) -> None:
        named = lookups.tenant_named(tenant) if tenant else None
        if tenant and named is None:
            raise CommandError(f"There is no tenant {tenant!r}.")
        for tenant_id in [named] if named else lookups.all_tenants():
            with tenant_scope(tenant_id):
                found = turn_of(tenant_id, turn)
                if found:
                    for name, lines in told(found):
                        self.stdout.write(f"{name:<12}" + f"\n{'':<12}".join(lines))
                    return
        raise CommandError(f"There is no turn {turn!r}.")
