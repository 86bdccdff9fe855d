"""Shows from the terminal which passages a question finds."""

from __future__ import annotations

import textwrap
from argparse import ArgumentParser
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError

from apps.knowledge.collections import find_collection
from apps.knowledge.management.terminal import tenant_named
from apps.knowledge.search import search
from apps.tenants.scoping import tenant_scope
from chatbot.errors import NotFound
from chatbot.events import Source


class Command(BaseCommand):
    help = "Search a collection as an assistant does before it answers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("question")
        parser.add_argument("--tenant", required=True, help="slug of the tenant")
        parser.add_argument("--collection", required=True, help="slug of the collection")
        parser.add_argument("--limit", type=int, default=6, help="passages at most (default: %(default)s)")

    def handle(self, **options: Any) -> None:
        tenant = tenant_named(options["tenant"])
        try:
            with tenant_scope(tenant):
                collection = find_collection(tenant, options["collection"])
        except NotFound as error:
            raise CommandError(f"There is no collection {options['collection']!r}.") from error
        found = async_to_sync(search)(tenant, [collection], options["question"], limit=options["limit"])
        for source in found:
            self.stdout.write(self.style.MIGRATE_HEADING(_place(source)))
            self.stdout.write(textwrap.indent(textwrap.shorten(source.text, 400, placeholder=" …"), "    "))
        if not found:
            self.stdout.write("Nothing found.")


def _place(source: Source) -> str:
    parts = " > ".join(dict.fromkeys([source.title, *source.heading]))
    page = f", page {source.page}" if source.page else ""
    return f"[{source.n}] {parts}{page}  ({source.score:.4f})"
