"""Register an OAuth2 application of a tenant and print its client id and secret, once."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from apps.oauth.models import Application
from apps.oauth.registration import register
from apps.tenants import audit, lookups, rights
from apps.tenants.scoping import tenant_scope


class Command(BaseCommand):
    help = (
        "Register an OAuth2 application. It acts by itself, or with --redirect in the name of members who agree. Its"
        " client id and secret go to standard output alone, as variables of a shell; the secret cannot be shown again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, help="slug of the tenant")
        parser.add_argument("--name", required=True, help="shown to members who are asked to let it in")
        parser.add_argument("--scope", action="append", choices=list(rights.SCOPES), help="repeat; all if left out")
        parser.add_argument("--redirect", action="append", default=[], help="where members come back to; repeat")
        parser.add_argument("--public", action="store_true", help="it runs on its users' devices, without a secret")

    def handle(self, *, tenant: str, name: str, scope: list[str] | None, **options: Any) -> None:
        found = lookups.find_tenant(tenant)
        if found is None:
            raise CommandError(f"There is no tenant {tenant!r}.")
        addresses = options["redirect"]
        fields = {
            "name": name,
            "scopes": scope or list(rights.SCOPES),
            "redirect_uris": "\n".join(addresses),
            "client_type": Application.CLIENT_PUBLIC if options["public"] else Application.CLIENT_CONFIDENTIAL,
            "authorization_grant_type": Application.GRANT_AUTHORIZATION_CODE
            if addresses
            else Application.GRANT_CLIENT_CREDENTIALS,
        }
        with tenant_scope(found):
            try:
                application, secret = register(found, **fields)
            except ValidationError as error:
                raise CommandError(" ".join(error.messages)) from error
            actor = audit.actor_of_command("register_application")
            audit.record(found, "application.registered", actor, application, scopes=application.scopes)
        self.stdout.write(f"CLIENT_ID={application.client_id}")
        self.stdout.write(f"CLIENT_SECRET={secret}")
