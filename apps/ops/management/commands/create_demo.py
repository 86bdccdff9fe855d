"""Fill a local stack with something to try: a tenant whose assistant answers from Parley's own documentation."""

from __future__ import annotations

import json
import os
import secrets
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.db.models import QuerySet

from apps.assistants.models import Assistant, AssistantCollection
from apps.assistants.publishing import default_prompt
from apps.inference.models import Endpoint
from apps.knowledge.collections import create_collection
from apps.knowledge.ingest import add_document, replace_document
from apps.knowledge.models import Collection, Document
from apps.ops.demo import ADMIN
from apps.tenants import keys, lookups, rights
from apps.tenants.models import ApiKey, Tenant, User
from apps.tenants.scoping import tenant_scope
from apps.usage.standard_plan import create_standard_plan

TENANT = "demo"
ASSISTANT = "guide"
COLLECTION = "parley-docs"
FIRST = "quick-start.md"  # what `make up` waits for
WAIT_SECONDS = 240.0
ENDPOINTS = {
    "Local chat model": ("DEMO_CHAT_URL", "DEMO_CHAT_MODEL", Endpoint.Kind.CHAT),
    "Local embedding model": ("DEMO_EMBEDDING_URL", "DEMO_EMBEDDING_MODEL", Endpoint.Kind.EMBEDDING),
}


class Command(BaseCommand):
    help = "Create or refresh the demo (local stacks only); with --wait, end when its quick start can be searched."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--wait", action="store_true", help="until the quick start is searchable")

    def handle(self, *, wait: bool, **options: Any) -> None:
        if not settings.LOCAL:
            raise CommandError("Demo data and demo credentials exist only where PARLEY_ENV=local.")
        if wait:
            self._wait()
            return
        with transaction.atomic():
            for name, (url, model, kind) in ENDPOINTS.items():
                _refresh_endpoint(name, url, model, kind)
            create_standard_plan()
            tenant = lookups.find_tenant(TENANT) or Tenant(slug=TENANT, name="Demo")
            with tenant_scope(tenant):
                tenant.save()
                collection = Collection.objects.for_tenant(tenant).filter(slug=COLLECTION).first() or create_collection(
                    tenant, name="Parley's documentation", slug=COLLECTION, description="The files of docs/."
                )
                _refresh_assistant(tenant, collection)
                _write_credentials(tenant)
        for path in _documents():
            _refresh_document(tenant, collection, path)

    def _wait(self) -> None:
        """Show how far the quick start has come, until it is ready."""
        said = ""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            document = _first_document()
            if document is None or document.status == Document.Status.FAILED:
                raise CommandError(document.failure_message if document else f"docs/{FIRST} is missing.")
            if document.status == Document.Status.READY:
                return
            state = document.get_status_display().lower()
            if document.progress_total:
                state += f", {document.progress_done} of {document.progress_total}"
            if state != said:
                self.stdout.write(f"Reading the quick start: {state}")
                said = state
            time.sleep(0.2)
        raise CommandError(f"docs/{FIRST} was not searchable after {WAIT_SECONDS:.0f} s; the worker's log says why.")


def _first_document() -> Document | None:
    tenant = lookups.find_tenant(TENANT)
    if tenant is None:
        return None
    with tenant_scope(tenant):
        pages: QuerySet[Document] = Document.objects.for_tenant(tenant).filter(collection__slug=COLLECTION)
        return pages.filter(file_name=FIRST).first()


def _documents() -> list[Path]:
    """The pages of docs/, the quick start first, without the index, which answers nothing."""
    pages = {path for path in (settings.BASE_DIR / "docs").glob("*.md") if path.name != "README.md"}
    return sorted(pages, key=lambda path: (path.name != FIRST, path.name))


def _refresh_endpoint(name: str, url: str, model: str, kind: Endpoint.Kind) -> None:
    """The address may have changed with the ports; what an operator set otherwise stays."""
    dimension = int(os.environ["DEMO_EMBEDDING_DIMENSION"]) if kind == Endpoint.Kind.EMBEDDING else None
    length = int(os.environ.get("DEMO_CHAT_CONTEXT", "4096")) if kind == Endpoint.Kind.CHAT else 512
    Endpoint.objects.update_or_create(
        name=name,
        defaults={"base_url": os.environ[url], "model": os.environ[model]},
        create_defaults={
            "base_url": os.environ[url],
            "model": os.environ[model],
            "kind": kind,
            "protocol": Endpoint.Protocol.LLAMACPP if kind == Endpoint.Kind.CHAT else Endpoint.Protocol.OPENAI,
            "dimension": dimension,
            "context_length": length,
            # Two busy cores may take half a minute to read a long prompt.
            "first_token_seconds": 60,
            # It works on one after the other. So documents have one batch there, and a question comes next.
            **({"limit": 2} if kind == Endpoint.Kind.EMBEDDING else {}),
        },
    )


def _refresh_assistant(tenant: Tenant, collection: Collection) -> None:
    assistant, _ = Assistant.objects.for_tenant(tenant).get_or_create(
        slug=ASSISTANT,
        defaults={
            "tenant": tenant,
            "name": "Parley guide",
            "description": "Answers questions about Parley from its documentation.",
            "prompt": default_prompt(tenant),
            "max_tokens": 256,
            # The local model reads a hundred tokens a second or two.
            "passages": 3,
        },
    )
    AssistantCollection.objects.for_tenant(tenant).get_or_create(
        tenant=tenant, assistant=assistant, collection=collection
    )


def _refresh_document(tenant: Tenant, collection: Collection, path: Path) -> None:
    """Add the page, or its new text; an unchanged one is left alone."""
    content = path.read_bytes()
    with tenant_scope(tenant):
        known = Document.objects.for_tenant(tenant).filter(collection=collection, file_name=path.name).first()
    if known is None:
        add_document(tenant, collection, name=path.name, content=content)
    else:
        replace_document(tenant, known, name=path.name, content=content)


def _known(path: Path) -> dict[str, Any]:
    """What demo.json says; nothing where it is missing or damaged, so that it is written anew."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) and isinstance(known.get("admin", {}), dict) else {}


def _write_credentials(tenant: Tenant) -> None:
    """Keep var/demo.json true: the password and key in it work, and are made again only where they do not."""
    path = settings.PARLEY_HOME / "demo.json"
    known = _known(path)
    password = known.get("admin", {}).get("password", "")
    admin = User.objects.filter(email=ADMIN).first()
    if admin is None:
        password = secrets.token_urlsafe(12)
        User.objects.create_superuser(ADMIN, password, name="Demo operator")
    elif not password:
        password = secrets.token_urlsafe(12)
        admin.set_password(password)
        admin.save(update_fields=["password"])
    api_key = known.get("api_key", "")
    parts = keys.parse(api_key)
    if parts is None or not ApiKey.objects.for_tenant(tenant).usable().filter(key_id=parts.key_id).exists():
        account = keys.service_account(tenant, "Demo")
        _row, api_key = keys.issue(tenant, name="Demo", scopes=rights.ALL, service_account=account)
    demo = {
        "base_url": settings.PARLEY_BASE_URL,
        "admin": {"email": ADMIN, "password": password},
        "tenant": TENANT,
        "assistant": ASSISTANT,
        "api_key": api_key,
    }
    partial = path.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(demo, indent=2) + "\n")
    partial.replace(path)
