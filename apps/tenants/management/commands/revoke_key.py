"""Revoke an API key by its public id, wherever it was found."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.tenants import taking_back
from apps.tenants.audit import actor_of_command
from apps.tenants.lookups import key_of
from apps.tenants.models import ApiKey
from apps.tenants.scoping import tenant_scope


class Command(BaseCommand):
    help = "Revoke an API key: give its id, the twelve characters after `parley_`. The secret is not needed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("key_id")

    def handle(self, *, key_id: str, **_: Any) -> None:
        found = key_of(key_id.removeprefix("parley_").partition("_")[0])
        if found is None:
            raise CommandError("There is no key with this id.")
        with tenant_scope(found):
            key = ApiKey.objects.for_tenant(found.tenant_id).get(pk=found.id)
            taking_back.revoke_key(key, actor_of_command("revoke_key"))
        self.stdout.write(self.style.SUCCESS(f"{key.name} is revoked."))
