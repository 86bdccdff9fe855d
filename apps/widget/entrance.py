"""Where a page may let its visitors in: an active assistant of an active tenant that lists the page's origin."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.http import HttpRequest

from apps.access import rates, visitors
from apps.access.rates import Rate
from apps.assistants.models import Assistant
from apps.edge.origins import origin_in, origin_of, own_origin
from apps.tenants import lookups
from apps.tenants.models import slug_validator
from apps.tenants.scoping import platform_unit, tenant_scope
from chatbot.errors import InvalidRequest, NotAuthenticated


class Place(NamedTuple):
    tenant_id: uuid.UUID
    assistant_id: uuid.UUID
    origin: str


async def place_of(request: HttpRequest, tenant: str, assistant: str, *, rate: Rate, what: str) -> Place:
    """Raises NotAuthenticated, the same whatever is wrong, and RateLimited before anything is looked up.

    rate: of one address's requests for this assistant, counted under the name `what`.
    """
    address = rates.network_of(request.META.get("REMOTE_ADDR", ""))
    await rates.take(rate, what, address, tenant, assistant)
    origin = origin_of(request)
    place = None
    with suppress(InvalidRequest, ValidationError):
        slug_validator(tenant)
        slug_validator(assistant)
        if origin == own_origin() or origin_in(origin) == origin:
            place = await platform_unit(_place, tenant, assistant, origin)
    if place is None:
        raise NotAuthenticated
    return place


def _place(tenant: str, assistant: str, origin: str) -> Place | None:
    # With an unknown tenant an unknown assistant is looked for, too, so that the time taken tells nothing.
    tenant_id = lookups.tenant_named(tenant) or uuid.uuid4()
    with tenant_scope(tenant_id):
        rows = Assistant.objects.for_tenant(tenant_id).filter(slug=assistant, is_active=True, tenant__is_active=True)
        found = rows.filter(visitors.pages_of(origin)).values_list("pk", flat=True).first()
    return Place(tenant_id, found, origin) if found else None
