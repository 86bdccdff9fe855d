"""`manage.py verify_audit`: finds what was changed, taken out of or put into the audit log."""

from __future__ import annotations

import sys
import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.tenants import audit_chain, lookups
from apps.tenants.models import PLATFORM, Tenant
from apps.tenants.scoping import tenant_scope

OF_PLATFORM = "-"


class Command(BaseCommand):
    help = (
        "Compute the audit log's hashes anew and print each chain's length and head. Exits with 1 where an entry was"
        " changed, removed, inserted or exchanged. Keep the heads elsewhere: who can write the whole database could"
        " write a whole new chain, but not one with the head that you kept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help=f"this chain alone; {OF_PLATFORM} is the platform's own")
        parser.add_argument("--head", metavar="HASH", help="a head noted earlier, which the chain must still hold")

    def handle(self, *, tenant: str | None, head: str | None, **_: Any) -> None:
        if head and not tenant:
            raise CommandError("--head needs --tenant: each chain has a head of its own.")
        kept = _digest(head) if head else None
        broken = False
        for chain in [_chain_of(tenant)] if tenant else audit_chain.chains():
            verdict = audit_chain.verify(chain, kept)
            self.stdout.write(f"{_name_of(chain):40}{verdict.length:>10,} entries  head {verdict.head.hex() or '-'}")
            if verdict.bad:
                broken = True
                self.stdout.write(self.style.ERROR(f"  entry {verdict.bad[0]} {verdict.bad[1]}."))
        if broken:
            sys.exit(1)


def _digest(head: str) -> bytes:
    try:
        digest = bytes.fromhex(head)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise CommandError("--head takes the 64 hexadecimal digits that an earlier run printed.")
    return digest


def _chain_of(slug: str) -> uuid.UUID:
    chain = PLATFORM if slug == OF_PLATFORM else lookups.tenant_named(slug)
    if chain is None:
        raise CommandError(f"There is no tenant {slug!r}.")
    return chain


def _name_of(chain: uuid.UUID) -> str:
    if chain == PLATFORM:
        return "the platform"
    with tenant_scope(chain):
        tenant = Tenant.objects.filter(pk=chain).first()
    return tenant.slug if tenant else f"{chain} (deleted)"
