"""`manage.py init`: from an empty database to a Parley that can be logged in to. Running it again is harmless.

apps.ops.first_start has asked for the settings before; here is what needs them.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email
from django.db import connections

from apps.edge.doctor import cache_server, shared_state
from apps.inference.models import Endpoint
from apps.inference.probe import probe
from apps.knowledge.doctor import storage
from apps.ops import first_start
from apps.ops.doctor.data import EXTENSIONS, demo, postgres
from apps.ops.doctor.process import mail, python
from apps.tenants import lookups
from apps.tenants.models import Membership, Tenant, User, slug_validator
from apps.tenants.scoping import tenant_scope
from apps.usage.standard_plan import create_standard_plan
from chatbot.addresses import is_public

CHECKS = (python, storage, postgres, demo, shared_state, cache_server, mail)
CONTEXT = {Endpoint.Kind.CHAT: 8192, Endpoint.Kind.EMBEDDING: 512}  # tokens, where the server does not tell


class Command(BaseCommand):
    help = "Set Parley up in production: settings, tables, administrator, model servers. Harmless twice."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        first_start.add_arguments(parser)

    def handle(self, *, no_input: bool, file: Path, no_file: bool, force: bool, **_options: Any) -> None:
        self.asker = first_start.Asker(asks=not no_input)
        self.private = False  # whether a host was allowed that the settings do not name
        try:
            self._prepare_database()
            rows = list(self._model_servers())
            administrator = self._ask_for_administrator()
            tenant = self._ask_for_tenant()
        except (EOFError, KeyboardInterrupt):
            raise CommandError("The answers ended. Tables may have been made; no settings were written.") from None
        kept = no_file or (file.exists() and not force)
        if not no_file:
            # Before any row is written: what is encrypted with keys that are lost can never be read again.
            self.say(first_start.write(file, force=force))
        if kept and self.private:
            names = ",".join(settings.PARLEY_PRIVATE_ENDPOINT_HOSTS)
            self.say(f"Set PARLEY_PRIVATE_ENDPOINT_HOSTS={names}: a model server is not at a public address.")
        for row in rows:
            row.save()
            self.say(f"Endpoint {row.name}: {row.model}{f' at {row.base_url}' if row.base_url else ''}.")
        if plan := create_standard_plan():
            self.say(f"Plan {plan.name}: what a tenant may use without a plan of its own.")
        owner = self._create_administrator(*administrator) if administrator else None
        self._create_tenant(tenant, owner)
        self._tell_what_is_next()

    def say(self, line: str) -> None:
        self.stdout.write(line)

    # --- Database, mail -----------------------------------------------------------------------------------------------

    def _prepare_database(self) -> None:
        if "owner" in settings.DATABASES:
            with connections["owner"].cursor() as cursor:
                cursor.execute("SELECT extname FROM pg_extension")
                missing = EXTENSIONS.keys() - {row[0] for row in cursor.fetchall()}
            if missing:
                wanted = " ".join(f"CREATE EXTENSION {name};" for name in sorted(missing))
                raise CommandError(f"The database lacks extensions. As a superuser: {wanted}")
            call_command("setup_database", stdout=self.stdout)
        findings = [finding for check in CHECKS for finding in check()]
        for finding in findings:
            self.say(f"{finding.level:5}{finding.subject:12}{finding.says}")
        failed = [finding for finding in findings if finding.level == "fail"]
        if failed:
            raise CommandError(f"{failed[0].subject}: {failed[0].says}. {failed[0].advice}")

        if first_start.made_up and User.objects.exists():
            raise CommandError(
                f"The database is in use, with other secrets than would be made up now: set its"
                f" {', '.join(first_start.made_up)}."
            )

    # --- Model servers ------------------------------------------------------------------------------------------------

    def _model_servers(self) -> Iterator[Endpoint]:
        for kind in CONTEXT:
            known = Endpoint.objects.filter(kind=kind, enabled=True).first()
            if known:
                self.say(f"Endpoint {known.name} is there: {known.model}.")
            elif row := self._model_server(kind):
                yield row

    def _model_server(self, kind: Endpoint.Kind) -> Endpoint | None:
        """Ask until a server answers as it should, or none is wanted."""
        prefix = f"INIT_{kind.upper()}"
        what = kind.label.lower()
        while True:
            url = self.asker.settle(
                f"{prefix}_URL", f"The {what} model's server, such as http://tgi:8080", optional=True
            )
            if not url:
                self.say(f"No {what} endpoint: add one in the admin.")
                return None
            row = Endpoint(
                name=f"{kind.label} model",
                kind=kind,
                base_url=url,
                protocol=self.asker.settle(
                    f"{prefix}_PROTOCOL",
                    f"Its protocol ({', '.join(Endpoint.Protocol.values)})",
                    default=Endpoint.Protocol.OPENAI,
                    check=lambda value: "" if value in Endpoint.Protocol.values else "There is no such protocol.",
                ),
                model=self.asker.settle(f"{prefix}_MODEL", "The model, as the server names it"),
                api_key=self.asker.settle(f"{prefix}_KEY", "Its API key", optional=True, hidden=True),
                context_length=CONTEXT[kind],
            )
            wrong = self._try(row)
            if not wrong:
                return row
            if not self.asker.asks:
                raise CommandError(f"{prefix}_URL: {wrong}")
            self.say(f"  {wrong}")
            for part in ("URL", "PROTOCOL", "MODEL", "KEY"):
                os.environ.pop(f"{prefix}_{part}", None)

    def _try(self, row: Endpoint) -> str:
        """Let the server do a little work, and take over what it tells of itself; what is wrong, as a sentence."""
        self.private = _allow(row.base_url) or self.private
        result = async_to_sync(probe)(row)
        if offered := result.offers(row):
            for name, value in offered.items():
                setattr(row, name, value)
            result = async_to_sync(probe)(row)
        if result.error:
            return result.error
        try:
            row.full_clean(validate_unique=False)
        except ValidationError as error:
            return " ".join(error.messages)
        return ""

    # --- People -------------------------------------------------------------------------------------------------------

    def _ask_for_administrator(self) -> tuple[str, str] | None:
        if known := User.objects.filter(is_superuser=True, is_active=True).first():
            self.say(f"Administrator {known.email} is there.")
            return None
        email = self.asker.settle("INIT_ADMIN_EMAIL", "The administrator's e-mail address", check=_wrong_email)
        asked = self.asker.settle(
            "INIT_ADMIN_PASSWORD",
            "The administrator's password, of at least 12 characters; one is made up without it",
            check=lambda value: _wrong_password(value, email),
            optional=True,
            hidden=True,
        )
        return email, asked

    def _create_administrator(self, email: str, password: str) -> User:
        made_up = "" if password else secrets.token_urlsafe(15)
        user = User.objects.create_superuser(email, password or made_up)
        self.say(f"Administrator {user.email}" + (f", password {made_up} (shown only now)." if made_up else "."))
        return user

    def _ask_for_tenant(self) -> str:
        if lookups.all_tenants():
            return ""
        return self.asker.settle(
            "INIT_TENANT", "The first tenant's short name, such as acme", check=_wrong_slug, optional=True
        )

    def _create_tenant(self, slug: str, owner: User | None) -> None:
        if not slug:
            return
        tenant = Tenant(slug=slug, name=slug.replace("-", " ").capitalize())
        with tenant_scope(tenant):
            tenant.save()
            if owner:
                Membership.objects.create(tenant=tenant, user=owner, role=Membership.Role.OWNER)
        self.say(f"Tenant {tenant.slug}.")

    def _tell_what_is_next(self) -> None:
        manage = f"{sys.executable} manage.py"
        self.say(self.style.SUCCESS("\nParley is set up. Next:"))
        self.say(f"  1. {manage} collectstatic --no-input")
        self.say(f"  2. Start: {sys.executable} -m config.run web, the same with worker, and with beat")
        self.say(f"  3. {manage} doctor, and log in at {settings.PARLEY_BASE_URL}/admin/")
        self.say(f"  4. {manage} backup /a/directory/elsewhere, every night (docs/operations.md)")


def _allow(url: str) -> bool:
    """Whoever sets Parley up may name a server inside their network: whether it was added to the setting for that."""
    host = (urlsplit(url).hostname or "").lower()
    if not host or host in settings.PARLEY_PRIVATE_ENDPOINT_HOSTS:
        return False
    try:
        found = {ipaddress.ip_address(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False  # the probe says so
    if all(is_public(address) for address in found):
        return False
    settings.PARLEY_PRIVATE_ENDPOINT_HOSTS.append(host)
    os.environ["PARLEY_PRIVATE_ENDPOINT_HOSTS"] = ",".join(settings.PARLEY_PRIVATE_ENDPOINT_HOSTS)
    return True


def _wrong_email(value: str) -> str:
    try:
        validate_email(value)
    except ValidationError as error:
        return " ".join(error.messages)
    return ""


def _wrong_password(value: str, email: str) -> str:
    try:
        validate_password(value, User(email=email))
    except ValidationError as error:
        return " ".join(error.messages)
    return ""


def _wrong_slug(value: str) -> str:
    try:
        slug_validator(value)
    except ValidationError as error:
        return " ".join(error.messages)
    return ""
