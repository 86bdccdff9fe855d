"""Documents that come from an address: added, and pointed elsewhere. The worker that takes them up fetches them."""

from __future__ import annotations

from contextlib import suppress

from django.conf import settings
from django.db import IntegrityError

from apps.knowledge import ingest, queue, storage
from apps.knowledge.models import TITLE_CHARS, URL_CHARS, Chunk, Collection, Document
from apps.tenants.models import Tenant, User
from apps.tenants.scoping import tenant_scope
from apps.usage import keeping
from chatbot.addresses import check_url
from chatbot.errors import InvalidRequest, NotFound


def add_source(
    tenant: Tenant,
    collection: Collection,
    *,
    url: str,
    title: str = "",
    language: str = "",
    created_by: User | None = None,
) -> tuple[Document, bool]:
    """Queue what is at an address; False with the document that comes from there already, to be fetched again.

    Nothing is asked of the address here. Raises InvalidRequest (with fields), NotFound for a lost collection,
    QuotaExceeded where the tenant may keep no more.
    """
    url, title = _checked(url), ingest.checked_title(title)
    if known := _known(tenant, collection, url):
        with suppress(NotFound):  # deleted at this moment
            ingest.retry_document(tenant, known)
            return known, False
    try:
        with tenant_scope(tenant):
            # How many bytes there are, the worker that fetches them will know; a full store has no room for any.
            keeping.refuse_beyond(tenant, collection.pk, exactly=True, documents=1, bytes=1)
            document = Document.objects.create(
                tenant=tenant,
                collection=collection,
                title=title or url[:TITLE_CHARS],
                language=language,
                source_url=url,
                to_fetch=True,
                size=0,
                created_by=created_by,
            )
            queue.send_due(tenant.pk)
    except IntegrityError as error:
        if known := _known(tenant, collection, url):
            return known, False
        raise NotFound from error
    return document, True


def replace_source(tenant: Tenant, document: Document, *, url: str) -> Document:
    """Let a document come from this address from now on; what it has stays searchable until that is ready.

    Raises InvalidRequest (with fields), also where another document of the collection comes from there; NotFound.
    """
    url = _checked(url)
    if url == document.source_url:
        ingest.retry_document(tenant, document)
        return document
    try:
        with tenant_scope(tenant):
            current = ingest.locked(tenant, document)
            if storage.is_own_title(current):
                current.title = url[:TITLE_CHARS]
            current.source_url, current.to_fetch, current.fetched_at = url, True, None
            current.etag = current.modified = ""
            ingest.requeue(current)
            current.save()
            Chunk.objects.for_tenant(tenant).filter(document=current, live=False).discard()
            queue.send_due(tenant.pk)
    except IntegrityError as error:
        taken = "Another document of this collection comes from this address."
        raise InvalidRequest(fields={"url": taken}) from error
    return current


def _checked(url: str) -> str:
    """The address without its fragment, which no host is ever sent."""
    url = url.strip().partition("#")[0]
    if len(url) > URL_CHARS:
        raise InvalidRequest(fields={"url": f"An address has at most {URL_CHARS:,} characters."})
    try:
        return check_url(url, allowed=settings.PARLEY_PRIVATE_SOURCE_HOSTS)
    except InvalidRequest as error:
        raise InvalidRequest(fields={"url": error.message}) from error


def _known(tenant: Tenant, collection: Collection, url: str) -> Document | None:
    with tenant_scope(tenant):
        rows = Document.objects.for_tenant(tenant).filter(collection=collection, source_url=url)
        found: Document | None = rows.select_related("collection").first()
    return found
