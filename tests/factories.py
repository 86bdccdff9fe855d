"""Plain factories: each takes the tenant, so that no test mints a second one by accident."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import uuid
from typing import Any

from django.utils import timezone

from apps.assistants.models import Assistant, AssistantCollection, Prompt, PromptVersion
from apps.conversations.models import Attachment, Conversation
from apps.inference.models import Endpoint
from apps.knowledge.models import Chunk, Collection, Document, Embedding, EmbeddingIndex, Source, Upload
from apps.tenants import keys, rights
from apps.tenants.models import EndUser, Membership, Tenant, User
from apps.tenants.scoping import tenant_scope
from apps.usage import limits
from apps.usage.models import Quota

_count = itertools.count(1)
PASSWORD = "correct horse battery staple"


def make_tenant(slug: str = "", **fields: Any) -> Tenant:
    slug = slug or f"tenant-{next(_count)}"
    return Tenant.objects.create(**{"slug": slug, "name": slug.capitalize(), **fields})


def make_user(email: str = "", **fields: Any) -> User:
    return User.objects.create_user(email or f"user{next(_count)}@example.com", PASSWORD, **fields)


def make_member(*, tenant: Tenant, email: str = "", role: str = Membership.Role.EDITOR) -> User:
    user = make_user(email)
    Membership.objects.create(tenant=tenant, user=user, role=role)
    return user


def make_key(*, tenant: Tenant, **fields: Any) -> str:
    """The text of a new API key, of a service account unless `member` names somebody."""
    with tenant_scope(tenant):
        if member := fields.pop("member", None):
            fields["created_by"] = member
        else:
            fields["service_account"] = keys.service_account(tenant, "Tests")
        return keys.issue(tenant, **{"name": "test", "scopes": rights.ALL, **fields})[1]


def make_end_user(*, tenant: Tenant, external_id: str = "") -> EndUser:
    return EndUser.objects.create(tenant=tenant, external_id=external_id or f"person-{next(_count)}")


# What the admin's form of an endpoint asks for beside what tells it apart.
ENDPOINT_LIMITS = {
    "connect_seconds": "2",
    "between_tokens_seconds": "10",
    "total_seconds": "180",
    "wake_seconds": "0",
    "tier": "0",
    "weight": "1.0",
    "limit": "128",
    "prompt_price": "0",
    "completion_price": "0",
}
# Of an endpoint: a busy machine may keep it and its questions apart for longer than a product waits for it.
PATIENT = {"connect_seconds": 30, "first_token_seconds": 60, "between_tokens_seconds": 60}


def make_endpoint(base_url: str = "http://127.0.0.1:9", **fields: Any) -> Endpoint:
    kind = fields.get("kind", Endpoint.Kind.CHAT)
    defaults: dict[str, Any] = {"name": f"endpoint-{next(_count)}", "model": "fake", "base_url": base_url}
    if kind == Endpoint.Kind.EMBEDDING:
        defaults["dimension"] = 384
    return Endpoint.objects.create(**{**defaults, **fields})


def make_quota(*, tenant: Tenant, **fields: Any) -> Quota:
    """A limit of the tenant's own; a process that knows the old ones hears of it."""
    quota = Quota.objects.create(**{"tenant": tenant, "window": "day", "amount": 10, **fields})
    limits.forget()
    return quota


def make_index(*, tenant: Tenant, endpoint: Endpoint | None = None, **fields: Any) -> EmbeddingIndex:
    endpoint = endpoint or make_endpoint(kind=Endpoint.Kind.EMBEDDING)
    return EmbeddingIndex.objects.create(
        **{"tenant": tenant, "endpoint": endpoint, "model": endpoint.model, "dimension": endpoint.dimension, **fields}
    )


def make_collection(*, tenant: Tenant, index: EmbeddingIndex | None = None, **fields: Any) -> Collection:
    number = next(_count)
    defaults = {"name": f"Collection {number}", "slug": f"collection-{number}"}
    return Collection.objects.create(
        **{"tenant": tenant, "index": index or make_index(tenant=tenant), **defaults, **fields}
    )


def make_document(*, tenant: Tenant, collection: Collection, **fields: Any) -> Document:
    """A ready document without passages; make_passage adds those."""
    number = next(_count)
    defaults: dict[str, Any] = {
        "title": f"Document {number}",
        "file_name": f"document-{number}.md",
        "media_type": "text/markdown",
        "size": 10,
        "sha256": hashlib.sha256(str(number).encode()).hexdigest(),
        "stored": f"test/{uuid.uuid4()}",
        "status": Document.Status.READY,
    }
    return Document.objects.create(**{"tenant": tenant, "collection": collection, **defaults, **fields})


def make_source(*, tenant: Tenant, collection: Collection, **fields: Any) -> Source:
    """A site that nobody has run yet."""
    number = next(_count)
    defaults = {"name": f"Source {number}", "kind": Source.Kind.SITE, "location": f"https://site-{number}.example/"}
    return Source.objects.create(**{"tenant": tenant, "collection": collection, **defaults, **fields})


def make_upload(*, tenant: Tenant, collection: Collection, **fields: Any) -> Upload:
    """Of which no byte has come."""
    expires = timezone.now() + datetime.timedelta(hours=1)
    defaults: dict[str, Any] = {"file_name": "guide.md", "size": 10, "promised": 10, "expires": expires}
    return Upload.objects.create(**{"tenant": tenant, "collection": collection, **defaults, **fields})


def make_passage(
    *, tenant: Tenant, document: Document, text: str, vector: list[float] | None = None, **fields: Any
) -> Chunk:
    """A live passage, with a vector where one is given."""
    number = next(_count)
    defaults: dict[str, Any] = {"position": number, "tokens": len(text) // 3 + 1, "live": True}
    chunk = Chunk.objects.create(
        **{
            "tenant": tenant,
            "document": document,
            "collection": document.collection,
            "text": text,
            "digest": hashlib.sha256(text.encode()).hexdigest(),
            **defaults,
            **fields,
        }
    )
    if vector is not None:
        Embedding.objects.create(
            tenant=tenant,
            index=document.collection.index,
            chunk=chunk,
            collection=document.collection,
            live=chunk.live,
            dimension=document.collection.index.dimension,
            vector=vector,
        )
    return chunk


def make_prompt(*, tenant: Tenant, template: str = "You are {{ assistant }}.\n{{ passages }}", **fields: Any) -> Prompt:
    prompt = Prompt.objects.create(**{"tenant": tenant, "name": f"Prompt {next(_count)}", **fields})
    prompt.published = PromptVersion.objects.create(tenant=tenant, prompt=prompt, number=1, template=template)
    prompt.save()
    return prompt


def make_assistant(
    *, tenant: Tenant, collections: tuple[Collection, ...] = (), prompt: Prompt | None = None, **fields: Any
) -> Assistant:
    number = next(_count)
    assistant = Assistant.objects.create(
        **{
            "tenant": tenant,
            "name": f"Assistant {number}",
            "slug": f"assistant-{number}",
            "prompt": prompt or make_prompt(tenant=tenant),
            **fields,
        }
    )
    for collection in collections:
        AssistantCollection.objects.create(tenant=tenant, assistant=assistant, collection=collection)
    return assistant


def make_conversation(*, tenant: Tenant, assistant: Assistant, **fields: Any) -> Conversation:
    end_user = fields.pop("end_user", None) or make_end_user(tenant=tenant)
    return Conversation.objects.create(tenant=tenant, assistant=assistant, end_user=end_user, **fields)


def make_attachment(*, conversation: Conversation, **fields: Any) -> Attachment:
    text = fields.setdefault("text", "The valve is ochre.")
    defaults: dict[str, Any] = {"name": f"file-{next(_count)}.txt", "media_type": "text/plain", "size": len(text)}
    counted = {"kept": len(text), "tokens": len(text) // 3 + 1, "shortened": False}
    return Attachment.objects.create(
        tenant_id=conversation.tenant_id, conversation=conversation, **{**defaults, **counted, **fields}
    )
