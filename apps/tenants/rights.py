"""What can be permitted, and what each role of a tenant's members permits."""

from __future__ import annotations

from collections.abc import Iterable

from apps.tenants.models import Membership

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


def known(scopes: Iterable[str]) -> frozenset[str]:
    """The scopes among these words; a word of an older or newer version permits nothing."""
    return ALL.intersection(scopes)
