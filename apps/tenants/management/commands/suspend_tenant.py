"""Suspend a tenant, or let it go on."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.tenants import taking_back
from apps.tenants.audit import actor_of_command
from apps.tenants.lookups import find_tenant
from chatbot.errors import InvalidRequest


class Command(BaseCommand):
    help = "Suspend a tenant: its keys, tokens, sockets and running answers end within seconds. Its rows stay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--resume", action="store_true", help="let a suspended tenant go on")

    def handle(self, *, slug: str, resume: bool, **_: Any) -> None:
        tenant = find_tenant(slug)
        if tenant is None:
            raise CommandError(f"There is no tenant {slug!r}.")
        deed = taking_back.resume_tenant if resume else taking_back.suspend_tenant
        try:
            deed(tenant, actor_of_command("suspend_tenant"))
        except InvalidRequest as error:
            raise CommandError(error.message) from error
        self.stdout.write(self.style.SUCCESS(f"{tenant.name} is {'active' if resume else 'suspended'}."))
