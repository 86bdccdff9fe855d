"""A second index as tests build, watch and compare it."""

from __future__ import annotations

import datetime
from typing import Any

from django.utils import timezone

from apps.inference import gateway
from apps.inference.models import Endpoint
from apps.knowledge.models import Chunk, Collection, Embedding, SecondIndex
from apps.knowledge.second import tasks
from apps.tenants.models import Tenant
from tests.factories import make_endpoint
from tests.fakes.inference import FakeInference

WIDER = 512


def other_model(fake: FakeInference, **fields: Any) -> Endpoint:
    """A second embedding endpoint, with a model of its own."""
    given = {"name": "other", "model": "wide", "kind": Endpoint.Kind.EMBEDDING, "dimension": WIDER, "tier": 1}
    endpoint = make_endpoint(fake.base_url, **{**given, **fields})
    gateway.forget()
    return endpoint


def second_of(collection: Collection) -> SecondIndex:
    found: SecondIndex = SecondIndex.objects.for_tenant(collection.tenant_id).get(collection=collection)
    return found


def slice_done(collection: Collection) -> SecondIndex | None:
    """The next slice, whose time has come, as a worker does it."""
    rows = SecondIndex.objects.for_tenant(collection.tenant_id).filter(collection=collection)
    rows.update(next_slice_at=timezone.now() - datetime.timedelta(seconds=1))
    second = rows.first()
    if second:
        tasks.build_index(str(second.tenant_id), str(second.pk), second.slices)
    return rows.select_related("index").first()


def whole(tenant: Tenant, collection: Collection, index_id: Any) -> bool:
    """Whether each passage that questions find has one vector in the index, and nothing else has."""
    rows = Embedding.objects.for_tenant(tenant).filter(index=index_id, collection=collection)
    chunks = Chunk.objects.for_tenant(tenant).filter(collection=collection, live=True)
    return set(rows.values_list("chunk", "live")) == {(pk, True) for pk in chunks.values_list("pk", flat=True)}
