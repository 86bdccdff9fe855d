"""Creates, finds and deletes collections, each bound to the embedding index of its tenant."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection
from django.db.models import QuerySet
from django.utils.text import slugify

from apps.inference.models import Endpoint
from apps.knowledge import forgetting, storage
from apps.knowledge.models import Chunk, Collection, Document, EmbeddingIndex, SecondIndex
from apps.tenants.models import Tenant, slug_validator
from apps.tenants.scoping import tenant_scope
from chatbot.errors import InvalidRequest, ModelUnavailable, NotFound

# A large collection's rows take longer than an ordinary statement may.
DELETE_TIMEOUT = "60s"


def create_collection(
    tenant: Tenant, *, name: str, slug: str | None = None, description: str = "", fields: Sequence[str] = ()
) -> Collection:
    """Without a slug, one is made of the name.

    Raises InvalidRequest for a malformed or taken slug, ModelUnavailable where no embedding endpoint serves the tenant.
    """
    slug = slug or slugify(name)[:63].strip("-") or "collection"
    try:
        slug_validator(slug)
    except ValidationError as error:
        raise InvalidRequest(fields={"slug": error.messages[0]}) from error
    try:
        with tenant_scope(tenant):
            return Collection.objects.create(
                tenant=tenant,
                name=name,
                slug=slug,
                description=description,
                fields=list(fields),
                index=index_of(tenant, _endpoint(tenant)),
            )
    except IntegrityError as error:
        raise InvalidRequest(fields={"slug": f"There is a collection {slug!r} already."}) from error


def _endpoint(tenant: Tenant) -> Endpoint:
    endpoint = Endpoint.objects.serving(tenant, Endpoint.Kind.EMBEDDING).first()
    if endpoint is None:
        raise ModelUnavailable("No embedding endpoint serves this tenant: an operator has to add one first.")
    return endpoint


def index_of(tenant: Tenant, endpoint: Endpoint) -> EmbeddingIndex:
    """The tenant's index of the model that an embedding endpoint serves now. Call it in the tenant's scope."""
    index: EmbeddingIndex
    made: dict[str, Any] = {"endpoint": endpoint, "model": endpoint.model, "dimension": endpoint.dimension}
    index, _ = EmbeddingIndex.objects.for_tenant(tenant).get_or_create(**made, defaults={"tenant": tenant})
    return index


def find_collection(tenant: Tenant, key: str) -> Collection:
    """A collection by its id or slug, with what search needs of its index. Raises NotFound."""
    collections = Collection.objects.for_tenant(tenant).select_related("index__endpoint")
    try:
        found: Collection | None = collections.filter(pk=uuid.UUID(key)).first()
    except ValueError:
        # Postgres refuses a NUL even in a comparison.
        found = None if "\0" in key else collections.filter(slug=key).first()
    if found is None:
        raise NotFound
    return found


def delete_collection(tenant: Tenant, collection: Collection) -> None:
    """Delete it with its documents, passages and, once that is certain, their bytes."""
    with tenant_scope(tenant):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [DELETE_TIMEOUT])
        storage.in_turn(tenant)
        # Locked, so that nobody adds a document or a passage between the deletions below; then the second index, in
        # the order in which its worker locks.
        if not Collection.objects.for_tenant(tenant).select_for_update().filter(pk=collection.pk).first():
            return
        SecondIndex.objects.for_tenant(tenant).filter(collection=collection).delete()
        documents: QuerySet[Document] = Document.objects.for_tenant(tenant).filter(collection=collection)
        forgetting.bury(tenant, documents.select_for_update().only("stored"))
        Chunk.objects.for_tenant(tenant).filter(collection=collection).discard()
        collection.delete()
