"""Tenants, the people and programs that act for them, the end users that they serve, and what was done."""

from __future__ import annotations

from apps.tenants.models.audit import PLATFORM, AuditEntry, AuditHead
from apps.tenants.models.credentials import ApiKey, Invitation, ServiceAccount
from apps.tenants.models.erasure import Erasure
from apps.tenants.models.tenant import EndUser, Membership, Tenant, slug_validator
from apps.tenants.models.users import User

__all__ = [
    "PLATFORM",
    "ApiKey",
    "AuditEntry",
    "AuditHead",
    "EndUser",
    "Erasure",
    "Invitation",
    "Membership",
    "ServiceAccount",
    "Tenant",
    "User",
    "slug_validator",
]
