"""acme, which has webhooks, globex, the outsider, and a receiver."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apps.tenants.models import Tenant
from apps.tenants.scoping import platform_unit, tenant_scope
from apps.webhooks.deliveries import Happened, announce
from apps.webhooks.models import Delivery, Event, Webhook
from apps.webhooks.registration import register
from tests.apps.webhooks.receiver import Receiver
from tests.factories import make_tenant


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as started:
        yield started


@pytest.fixture(autouse=True)
def allowed(settings: Any) -> None:
    settings.PARLEY_PRIVATE_WEBHOOK_HOSTS = ["127.0.0.1"]


@pytest.fixture
def acme(database: None) -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def globex(database: None) -> Tenant:
    return make_tenant("globex")


def make_webhook(tenant: Tenant, url: str = "https://receiver.example/hook", **fields: Any) -> Webhook:
    return register(tenant, **{"name": "Ticket system", "url": url, "events": [Event.TURN_FINISHED], **fields})


def tell(tenant: Tenant, event: Event = Event.TURN_FINISHED, subject: uuid.UUID | None = None) -> None:
    """Announce an event as its owner does."""
    with tenant_scope(tenant):
        announce(tenant.pk, event, lambda: Happened(subject or uuid.uuid4(), {"turn": "t"}))


async def told(tenant: Tenant, **how: Any) -> None:
    await platform_unit(tell, tenant, **how)


async def only_delivery(tenant: Tenant) -> Delivery:
    return await platform_unit(lambda: Delivery.objects.for_tenant(tenant).select_related("webhook").get())


async def make_due(tenant: Tenant) -> None:
    """As if the time to back off, or the lease of a dead worker, had passed."""
    pending = Delivery.objects.for_tenant(tenant).filter(status=Delivery.Status.PENDING)
    await platform_unit(lambda: pending.update(next_attempt_at=pending.values("created")[:1]))
