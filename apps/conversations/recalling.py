"""Asks anew what a tenant's users asked lately, to learn how much of what is there their searches find."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence

from asgiref.sync import async_to_sync

from apps.assistants.models import AssistantCollection
from apps.conversations.models import Turn
from apps.knowledge import recall
from apps.knowledge.models import Collection, Layout
from apps.knowledge.recall import Measured, Question
from apps.tenants import lookups
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope

LATEST = 500  # turns, of which come the questions


def tenants() -> list[uuid.UUID]:
    """Those with an HNSW index."""
    return [tenant_id for (tenant_id,) in lookups.call("tenants_with_indexed_layouts")]


def each_layout(
    tenant_id: uuid.UUID, deed: Callable[[Tenant, Layout, Sequence[Question]], Awaitable[Measured]] = recall.guard
) -> Iterator[Measured]:
    """Guard, or only measure, each of the tenant's layouts with an HNSW index."""
    with tenant_scope(tenant_id):
        tenant = Tenant.objects.get(pk=tenant_id)
        rows = Layout.objects.for_tenant(tenant).filter(state=Layout.State.INDEXED).select_related("index", "tenant")
        layouts = [(layout, _questions(tenant, layout)) for layout in rows]
    for layout, questions in layouts:
        yield async_to_sync(deed)(tenant, layout, questions)


def _questions(tenant: Tenant, layout: Layout) -> list[Question]:
    """The latest, each once for an assistant, and the collections of that which the layout is about."""
    searched: dict[uuid.UUID, list[Collection]] = {}
    links = AssistantCollection.objects.for_tenant(tenant).filter(collection__index=layout.index_id)
    for link in links.select_related("collection__index__endpoint"):
        searched.setdefault(link.assistant_id, []).append(link.collection)
    turns = Turn.objects.for_tenant(tenant).filter(assistant__in=searched).order_by("-created", "-id")
    asked = dict.fromkeys(turns.values_list("assistant", "question__text")[:LATEST])
    return [Question(text, searched[assistant]) for assistant, text in asked][: recall.QUESTIONS]
