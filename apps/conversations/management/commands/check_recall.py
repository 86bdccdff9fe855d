"""Shows how much of what is there searches by HNSW indexes find."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.conversations import recalling
from apps.knowledge import recall
from apps.tenants import lookups


class Command(BaseCommand):
    help = (
        "Compare what searches by HNSW indexes find with what there is, by recent questions and by passages, as a"
        " worker does each night. The exit status is 1 where one finds less than it should; nothing is changed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", help="slug of the tenant; left out, all are looked at")

    def handle(self, *, tenant: str | None, **_: Any) -> None:
        named = lookups.tenant_named(tenant) if tenant else None
        if tenant and named is None:
            raise CommandError(f"There is no tenant {tenant!r}.")
        few = looked_at = 0
        self._line("tenant", "embedding index", "passages", "ef", "asked", "recall@10")
        for tenant_id in [named] if named else recalling.tenants():
            for found in recalling.each_layout(tenant_id, recall.measure):
                looked_at += 1
                few += not found.is_enough
                share = "none" if found.recall is None else f"{found.recall:.3f}"
                layout, asked = found.layout, found.asked.total()
                self._line(layout.tenant.slug, layout.index, layout.passages, found.ef, asked, share)
        self.stdout.write(f"{looked_at} HNSW indexes, {few} of them below {recall.LEAST}")
        if few:
            raise CommandError("The next night's look moves these to a larger ef, or to comparing each vector.")

    def _line(self, *cells: Any) -> None:
        tenant, index, passages, ef, asked, share = cells
        self.stdout.write(f"{tenant:<20}{index!s:<36}{passages:>10}{ef:>5}{asked:>7}{share:>11}")
