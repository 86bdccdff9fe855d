"""Create a tenant, with an owner where one is named."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from apps.tenants import audit
from apps.tenants.models import Membership, Tenant, User
from apps.tenants.scoping import tenant_scope


class Command(BaseCommand):
    help = "Create a tenant. An owner who is no user yet is created and gets a password by --password."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="its name in addresses and the API: lower-case letters, digits, hyphens")
        parser.add_argument("--name", help="its name for people; the slug if left out")
        parser.add_argument("--owner", metavar="E-MAIL", help="who owns it")
        parser.add_argument("--password", help="the owner's password, if they are new")

    def handle(self, *, slug: str, name: str | None, owner: str | None, password: str | None, **_: Any) -> None:
        tenant = Tenant(slug=slug, name=name or slug.replace("-", " ").capitalize())
        try:
            tenant.full_clean()
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        with tenant_scope(tenant):
            tenant.save()
            actor = audit.actor_of_command("create_tenant")
            audit.record(tenant, "tenant.created", actor, tenant)
            if owner:
                user = User.objects.filter(email__iexact=owner).first() or User.objects.create_user(owner, password)
                member = Membership.objects.create(tenant=tenant, user=user, role=Membership.Role.OWNER)
                audit.record(tenant, "member.added", actor, member, role=member.role)
        self.stdout.write(
            self.style.SUCCESS(f"Created tenant {tenant.slug}" + (f", owned by {owner}." if owner else "."))
        )
