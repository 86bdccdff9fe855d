"""Adds files and what is at addresses to a collection from the terminal and follows their ingestion."""

from __future__ import annotations

import os
import time
import uuid
from argparse import ArgumentParser, BooleanOptionalAction
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.core.files.base import File
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from apps.knowledge.collections import create_collection, find_collection
from apps.knowledge.ingest import add_document
from apps.knowledge.management.terminal import Bar, sentence, tenant_named
from apps.knowledge.models import Collection, Document
from apps.knowledge.sources import add_source
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from chatbot.errors import NotFound, ParleyError
from chatbot.formats import SUFFIXES

LOOK_EVERY = 0.5  # seconds
IDLE = 20.0  # seconds without any change, after which we say that perhaps no worker runs
FINISHED = {Document.Status.READY, Document.Status.FAILED, Document.Status.WAITING}  # for whoever sits here


class Command(BaseCommand):
    help = (
        "Add files, the readable files in directories, and what is at addresses to a collection, which is created if "
        "it is missing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("sources", nargs="+", metavar="SOURCE", help="file, directory or address (https://…)")
        parser.add_argument("--tenant", required=True, help="slug of the tenant")
        parser.add_argument("--collection", required=True, help="slug of the collection")
        parser.add_argument(
            "--wait", action=BooleanOptionalAction, default=True, help="follow the workers until all is done"
        )

    def handle(self, **options: Any) -> None:
        tenant = tenant_named(options["tenant"])
        named = [source if _is_address(source) else Path(source) for source in options["sources"]]
        missing = [str(path) for path in named if isinstance(path, Path) and not path.exists()]
        if missing:
            raise CommandError(f"There is no {', no '.join(missing)}.")
        try:
            collection = _collection(tenant, options["collection"])
        except ParleyError as error:
            raise CommandError(sentence(error)) from error
        sources = list(_expanded(named))
        if not sources:
            raise CommandError(f"Nothing to read there: readable are {', '.join(sorted(SUFFIXES))}.")
        ids, refused = self._add(tenant, collection, sources)
        failed = self._follow(tenant, ids) if options["wait"] else 0
        if refused or failed:
            raise CommandError(f"{refused + failed} of {len(sources)} documents could not be ingested.")

    def _add(self, tenant: Tenant, collection: Collection, sources: list[Path | str]) -> tuple[list[uuid.UUID], int]:
        """The documents' ids, and how many sources were refused."""
        bar, ids, refused = Bar(self.stdout), [], 0
        for place, source in enumerate(sources):
            bar.draw(place / len(sources), f"{place}/{len(sources)} stored: {source}")
            try:
                document, added = _added(tenant, collection, source)
            except (ParleyError, OSError) as error:
                refused += 1
                bar.clear()
                self.stderr.write(f"{source}: {sentence(error) if isinstance(error, ParleyError) else error.strerror}")
                continue
            ids.append(document.pk)
            bar.clear()
            self.stdout.write(f"{source}: {'queued' if added else f'known already ({document.status})'}")
        return list(dict.fromkeys(ids)), refused

    def _follow(self, tenant: Tenant, ids: list[uuid.UUID]) -> int:
        """Wait until none is left, telling of each that ends; how many failed."""
        bar, told, failed = Bar(self.stdout), set[uuid.UUID](), 0
        rows = Document.objects.for_tenant(tenant).filter(pk__in=ids)
        last: object = None
        changed = time.monotonic()
        while True:
            with tenant_scope(tenant):
                documents = list(rows.all())
            for document in documents:
                if document.status in FINISHED and document.pk not in told:
                    told.add(document.pk)
                    bar.clear()
                    self._tell(document)
                    failed += document.status == Document.Status.FAILED
            if all(document.status in FINISHED for document in documents):
                bar.clear()
                return failed
            now = [(document.status, document.progress_done) for document in documents]
            if now != last:
                last, changed = now, time.monotonic()
            elif time.monotonic() - changed > IDLE:
                changed = time.monotonic()
                bar.clear()
                self.stderr.write("Nothing has moved for a while. Is a worker running?")
            bar.draw(_share(documents), _current(documents))
            connection.close()  # back to the pool while we sleep
            time.sleep(LOOK_EVERY)

    def _tell(self, document: Document) -> None:
        if document.status == Document.Status.READY:
            self.stdout.write(f"{document.title}: ready, {document.passages} passages")
        elif document.status == Document.Status.WAITING:
            self.stdout.write(f"{document.title}: {document.failure_message}")
        else:
            self.stderr.write(f"{document.title}: failed. {document.failure_message}")


def _collection(tenant: Tenant, slug: str) -> Collection:
    with tenant_scope(tenant):
        try:
            return find_collection(tenant, slug)
        except NotFound:
            return create_collection(tenant, name=slug.replace("-", " ").capitalize(), slug=slug)


def _is_address(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _added(tenant: Tenant, collection: Collection, source: Path | str) -> tuple[Document, bool]:
    if isinstance(source, str):
        return add_source(tenant, collection, url=source)
    with source.open("rb") as content:
        return add_document(tenant, collection, name=source.name, content=File(content))


def _expanded(sources: Iterable[Path | str]) -> Iterator[Path | str]:
    """The files and addresses named, whatever they are, and in directories what can be read, but nothing hidden."""
    for path in sources:
        if isinstance(path, str) or not path.is_dir():
            yield path
            continue
        for directory, names, files in os.walk(path):
            names[:] = sorted(name for name in names if not name.startswith("."))
            yield from (
                Path(directory, name)
                for name in sorted(files)
                if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
            )


def _share(documents: list[Document]) -> float:
    done = sum(
        1.0 if document.status in FINISHED else 0.9 * document.progress_done / max(document.progress_total, 1)
        for document in documents
    )
    return done / max(len(documents), 1)


def _current(documents: list[Document]) -> str:
    finished = sum(document.status in FINISHED for document in documents)
    moving = [document for document in documents if document.status not in FINISHED | {Document.Status.QUEUED}]
    text = f"{finished}/{len(documents)} documents"
    if moving:
        one = moving[0]
        text += f" · {one.title}: {one.status}"
        text += f" {one.progress_done}/{one.progress_total} passages" if one.progress_total else ""
    return text
