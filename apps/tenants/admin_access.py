"""Who may do what in the admin. It follows from Membership alone; Django's permission rows are never consulted."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.options import BaseModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.tenants.admin_acting import acting_of
from apps.tenants.models import Membership, Tenant
from apps.tenants.scoping import TenantOwned

OWNERS = frozenset({Membership.Role.OWNER})
# Who builds assistants and what they know.
BUILDERS = OWNERS | {Membership.Role.EDITOR}
# Who reads what end users asked.
ANALYSTS = OWNERS | {Membership.Role.ANALYST}
# Who helps an end user who names one conversation.
SUPPORT = frozenset({Membership.Role.SUPPORT})


def is_operator(request: HttpRequest) -> bool:
    """Operators run the platform and act for every tenant."""
    return bool(request.user.is_active and request.user.is_superuser)


def tenants_of(request: HttpRequest, *, as_owner: bool = False) -> QuerySet[Tenant]:
    """The tenant for which the page acts, or all of them; none where the person is a lesser member and `as_owner`."""
    acting = acting_of(request)
    if acting.across:
        return Tenant.objects.all()
    if acting.tenant is None or (as_owner and not is_operator(request) and acting.role not in OWNERS):
        return Tenant.objects.none()
    return Tenant.objects.filter(pk=acting.tenant.pk)


def acts_for_several(request: HttpRequest) -> bool:
    """Whether pages must say whose a row is."""
    return acting_of(request).several


class Access(BaseModelAdmin):  # type: ignore[type-arg]
    """Permissions of pages and inlines.

    read_by, written_by: roles; operators do what owners do. operators_only: nobody else sees anything.
    writable: False for rows that other doors write and people only read.
    """

    read_by = OWNERS
    written_by = OWNERS
    operators_only = False
    writable = True

    def permits(self, request: HttpRequest, roles: frozenset[str], obj: Any = None) -> bool:
        """`obj` is a row, a tenant, an inline's parent, or (from unfold's actions) an id, left to the queryset."""
        if is_operator(request) or self.operators_only:
            return is_operator(request)
        acting = acting_of(request)
        if isinstance(obj, Tenant | TenantOwned):
            owner = obj.pk if isinstance(obj, Tenant) else obj.tenant_id
            return acting.role in roles and owner == acting.tenant_id
        return acting.role in roles

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.permits(request, self.read_by, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.writable and self.permits(request, self.written_by, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.writable and self.permits(request, self.written_by, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.writable and self.permits(request, self.written_by, obj)
