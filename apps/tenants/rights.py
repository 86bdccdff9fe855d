"""What can be permitted, and what each role of a tenant's members permits."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from apps.tenants.models import Membership, User

SCOPES = {
    "chat:write": "Ask assistants, stop answers, give feedback",
    "chat:read": "Read conversations, turns and assistants",
    "knowledge:read": "Read collections and documents, and search",
    "knowledge:write": "Add, replace and delete documents and collections",
    "usage:read": "Read usage",
    "admin:*": "Manage webhooks and the tenant itself",
}
ALL = frozenset(SCOPES)

# Support sees single conversations in the admin alone: no credential of theirs lists any.
OF_ROLE: dict[str, frozenset[str]] = {
    Membership.Role.OWNER: ALL,
    Membership.Role.EDITOR: ALL - {"admin:*", "usage:read"},
    Membership.Role.ANALYST: frozenset({"chat:read", "knowledge:read", "usage:read"}),
    Membership.Role.SUPPORT: frozenset(),
}


def of(user: User, tenant_id: uuid.UUID) -> frozenset[str]:
    """What a user may do in a tenant now: all as an operator, else what their role permits. Call it in its scope."""
    if not user.is_active:
        return frozenset()
    if user.is_superuser:
        return ALL
    membership = Membership.objects.for_tenant(tenant_id).filter(user=user).first()
    return OF_ROLE[membership.role] if membership else frozenset()


def known(scopes: Iterable[str]) -> frozenset[str]:
    """The scopes among these words; a word of an older or newer version permits nothing."""
    return ALL.intersection(scopes)
