"""Who a page's visitor is: somebody new, the one whose ticket they bring, or whom an identity names."""

from __future__ import annotations

import uuid
from functools import partial

from asgiref.sync import async_to_sync
from django.db import transaction

from apps.access import identities, tickets, visitors
from apps.access.models import IdempotencyKey
from apps.access.tickets import Ticket
from apps.conversations.models import Conversation, Feedback, Merging, Turn
from apps.conversations.parties import end_user_of
from apps.tenants import audit, taking_back
from apps.tenants.models import EndUser, Tenant
from apps.widget.entrance import Place
from apps.widget.models import Widget


def enter(place: Place, *, ticket: str, identity: str, address: str = "") -> Ticket:
    """The visitor as their next ticket says it. Raises WrongIdentity. Call it as one unit."""
    brought = tickets.read(ticket, *place) if ticket else None
    if not identity:
        return _anonymous(place, brought)
    widget = Widget.objects.for_tenant(place.tenant_id).filter(assistant=place.assistant_id).first()
    subject = identities.subject_of(identity, widget.identity_secrets() if widget else ())
    tenant = Tenant.objects.get(pk=place.tenant_id)
    person = end_user_of(tenant, subject)
    if brought and not brought.identified:
        _merge(tenant, brought.visitor, person, address)
    return Ticket(*place, visitor=subject, known=person.pk, identified=True)


def _anonymous(place: Place, brought: Ticket | None) -> Ticket:
    """The one who comes back, unless what the ticket stands for is gone: erased, or somebody's by name now."""
    new = Ticket(*place, visitor=visitors.anonymous())
    if brought is None or brought.identified:
        return new
    row = EndUser.objects.for_tenant(place.tenant_id).filter(external_id=brought.visitor).first()
    if brought.known and (row is None or row.pk != brought.known):
        return new
    if row and Merging.objects.for_tenant(place.tenant_id).filter(visitor=row).exists():
        return new
    return Ticket(*place, visitor=brought.visitor, known=row.pk if row else None)


def _merge(tenant: Tenant, visitor: str, person: EndUser, address: str) -> None:
    """Make what an anonymous visitor said the person's. Done once: later tickets of that visitor merge nothing.

    The ledger stays as it was: it tells who asked at that time.
    """
    # Whoever merges at the same moment waits here, and finds it done.
    rows = EndUser.objects.for_tenant(tenant).select_for_update()
    end_user_of(tenant, visitor)
    anonymous: EndUser = rows.get(external_id=visitor)
    # Also where it was done before: Redis may have been away then. The page's other tabs renew, and are the person.
    transaction.on_commit(partial(async_to_sync(visitors.end), tenant.pk, visitor), robust=True)
    taking_back.announce(f"visitor:{tenant.pk}:{visitor}")
    if Merging.objects.for_tenant(tenant).filter(visitor=anonymous).exists():
        return
    Merging.objects.create(tenant=tenant, visitor=anonymous, into=person)
    moved = Conversation.objects.for_tenant(tenant).filter(end_user=anonymous).update(end_user=person)
    Turn.objects.for_tenant(tenant).filter(end_user=anonymous).update(end_user=person)
    Feedback.objects.for_tenant(tenant).filter(end_user=anonymous).update(end_user=person)
    _move_keys(tenant, anonymous.pk, person.pk)
    if moved:
        actor = audit.Actor("visitor", str(anonymous.pk), visitor, address)
        audit.record(tenant, "visitor.identified", actor, person, conversations=moved)


def _move_keys(tenant: Tenant, anonymous: uuid.UUID, person: uuid.UUID) -> None:
    """A question that is sent again under its key is not asked twice because its visitor has a name now."""
    keys = IdempotencyKey.objects.for_tenant(tenant)
    taken = keys.filter(end_user=person).values("key")
    keys.filter(end_user=anonymous).exclude(key__in=taken).update(end_user=person)
