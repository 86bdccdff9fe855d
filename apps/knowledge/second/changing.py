"""What people do with a collection's second index: build, retry, switch to it and back, drop it."""

from __future__ import annotations

import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from apps.inference.models import Endpoint
from apps.knowledge.collections import index_of
from apps.knowledge.models import Collection, SecondIndex
from apps.knowledge.second import keeping, lacking, schedule
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from chatbot.errors import InvalidRequest, NotFound

# Searches that began in an index are over by then: nothing is taken from under them.
DROPPED_AFTER = datetime.timedelta(seconds=60)
State = SecondIndex.State


def models(tenant: Tenant, collection: Collection) -> list[Endpoint]:
    """Endpoints whose model can take the place of the one in use, one for each model and dimension. The same model is
    among them where it can only be had elsewhere now. Call it in the tenant's scope."""
    index = collection.index
    offered: dict[tuple[str, int | None], Endpoint | None] = {}
    for endpoint in Endpoint.objects.serving(tenant, Endpoint.Kind.EMBEDDING):
        made = endpoint.model, endpoint.dimension
        if made == (index.model, index.dimension) and endpoint.pk == index.endpoint_id:
            offered[made] = None
        offered.setdefault(made, endpoint)
    return [endpoint for endpoint in offered.values() if endpoint]


def build(tenant: Tenant, collection: Collection, model: str, dimension: int | None = None) -> SecondIndex:
    """Begin a second index of another model, in the background. The one in use stays in use. dimension: where a model
    is served with several.

    Raises InvalidRequest (with fields) for a model that no endpoint serves or that is in use, and where there is a
    second index already; NotFound for a lost collection.
    """
    with tenant_scope(tenant):
        current = _locked(tenant, collection)
        offered = models(tenant, current)
        wanted = [one for one in offered if one.model == model and dimension in (None, one.dimension)]
        if not wanted:
            raise InvalidRequest(fields={"model": _offer(offered)})
        if SecondIndex.objects.for_tenant(tenant).filter(collection=current).exists():
            raise InvalidRequest(fields={"model": "This collection has a second index already. Drop it first."})
        second: SecondIndex = SecondIndex.objects.create(
            tenant=tenant, collection=current, index=index_of(tenant, wanted[0])
        )
        schedule.send_due(tenant.pk)
    return second


def retry(tenant: Tenant, collection: Collection) -> None:
    """Go on with one that failed, backs off or waits, at once. Others are left alone. Raises NotFound."""
    with tenant_scope(tenant):
        second = find(tenant, collection)
        if second.state in (State.FAILED, State.RETRYING, State.WAITING):
            _set(second, state=State.BUILDING, attempts=0, failure_code="", failure_message="")
            schedule.send_due(tenant.pk)


def switch(tenant: Tenant, collection: Collection) -> None:
    """Let searches use the second index, and keep the one they used as the second: switching again goes back.

    Raises InvalidRequest where it is not ready, NotFound where there is none. What it then lacks is noted, so whoever
    has a transaction around this commits it all the same.
    """
    with tenant_scope(tenant):
        behind = _found_behind(tenant, collection)
    if behind:
        raise InvalidRequest(_not_ready(behind))
    with tenant_scope(tenant):
        # Until this commits no document goes live, and each that does so later has looked again.
        current = _locked(tenant, collection)
        second = find(tenant, collection)
        exchanged = SecondIndex.objects.for_tenant(tenant).filter(pk=second.pk, index=second.index, state=State.READY)
        if not exchanged.update(index=current.index, switched=not second.switched, updated=timezone.now()):
            raise InvalidRequest(_not_ready(second))
        Collection.objects.for_tenant(tenant).filter(pk=current.pk).update(index=second.index)


def drop(tenant: Tenant, collection: Collection) -> None:
    """Delete the second index and its vectors, in the background; one that is being built is cancelled.

    Raises NotFound where there is none.
    """
    with tenant_scope(tenant):
        second = find(tenant, collection)
        if second.state == State.DROPPING:
            return
        begins = timezone.now()
        if second.state == State.READY or second.switched:
            begins += DROPPED_AFTER
        # Its worker notices that its lease is gone before it writes anything.
        _set(
            second,
            state=State.DROPPING,
            attempts=0,
            failure_code="",
            failure_message="",
            lease_until=None,
            lease_token=None,
            next_slice_at=begins,
        )
        schedule.send_due(tenant.pk)


def _found_behind(tenant: Tenant, collection: Collection) -> SecondIndex | None:
    """The second index if it was thought ready and is not: a release that knew of none was at work. It is built on."""
    # Not locked yet: whoever locks both begins with the collection, and to look takes a while.
    second: SecondIndex | None = _seconds(tenant, collection).first()
    if second is None or second.state != State.READY or not lacking.first_live(second, 1):
        return None
    second.total, second.done = lacking.count(second)
    _set(second, state=State.BUILDING, total=second.total, done=second.done)
    schedule.send_due(tenant.pk)
    return second


def find(tenant: Tenant, collection: Collection) -> SecondIndex:
    """The collection's second index, locked. Raises NotFound where it has none."""
    second: SecondIndex | None = _seconds(tenant, collection).select_for_update(of=("self",)).first()
    if second is None:
        raise NotFound("This collection has no second index.")
    return second


def _seconds(tenant: Tenant, collection: Collection) -> QuerySet[SecondIndex]:
    rows: QuerySet[SecondIndex] = SecondIndex.objects.for_tenant(tenant).filter(collection=collection.pk)
    return rows.select_related("index")


def _locked(tenant: Tenant, collection: Collection) -> Collection:
    """As it is, and stays until this commits; no document goes live meanwhile."""
    rows = Collection.objects.for_tenant(tenant).select_related("index")
    found: Collection | None = rows.select_for_update(no_key=True, of=("self",)).filter(pk=collection.pk).first()
    if found is None:
        raise NotFound
    keeping.hold_back(found)
    return found


def _set(second: SecondIndex, /, **fields: Any) -> None:
    """Unless its state has become another one since it was read."""
    now = timezone.now()
    rows = SecondIndex.objects.for_tenant(second.tenant_id).filter(pk=second.pk, state=second.state)
    rows.update(**{"is_sent": False, "next_slice_at": now, "updated": now, **fields})


def _offer(offered: list[Endpoint]) -> str:
    if not offered:
        return "No other embedding model serves this workspace. An operator adds endpoints."
    return f"One of {', '.join(f'{one.model} ({one.dimension})' for one in offered)}."


def _not_ready(second: SecondIndex) -> str:
    if second.state == State.FAILED:
        return "The second index could not be built. Retry it, or drop it."
    if second.state == State.DROPPING:
        return "The second index is being dropped."
    return f"The second index is not ready: {second.done:,} of {second.total:,} passages have their vectors."
