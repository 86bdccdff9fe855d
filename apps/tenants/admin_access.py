"""Who may do what in the admin. It follows from Membership alone; Django's permission rows are never consulted."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.options import BaseModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.tenants.models import Membership, Tenant
from apps.tenants.scoping import TenantOwned


def is_operator(request: HttpRequest) -> bool:
    """Operators run the platform and act for every tenant."""
    return bool(request.user.is_active and request.user.is_superuser)


def tenants_of(request: HttpRequest, *, as_owner: bool = False) -> QuerySet[Tenant]:
    """The tenants that the logged-in user may act for, read once a request; `as_owner` leaves out mere memberships."""
    name = "_tenants_as_owner" if as_owner else "_tenants"
    if not hasattr(request, name):
        setattr(request, name, _tenants(request, as_owner=as_owner))
    found: QuerySet[Tenant] = getattr(request, name)
    return found


def _tenants(request: HttpRequest, *, as_owner: bool) -> QuerySet[Tenant]:
    user = request.user
    if not user.is_authenticated or not user.is_active:
        return Tenant.objects.none()
    tenants = Tenant.objects.of(user)
    if as_owner and not user.is_superuser:
        # Of the same membership: a filter after of() would join a second one.
        owned = Membership.objects.filter(user=user, role=Membership.Role.OWNER)
        return tenants.filter(pk__in=owned.values("tenant"))
    return tenants


def acts_for_several(request: HttpRequest) -> bool:
    """Whether pages must say whose a row is."""
    return is_operator(request) or len(tenants_of(request)) > 1


class Access(BaseModelAdmin):  # type: ignore[type-arg]
    """Permissions of pages and inlines.

    owner_only: members who are not owners of the tenant see nothing. operators_only: nobody else sees anything.
    writable: False for rows that other doors write and people only read.
    """

    owner_only = False
    operators_only = False
    writable = True

    def scope(self, request: HttpRequest) -> QuerySet[Tenant]:
        """The tenants whose rows this page shows."""
        return tenants_of(request, as_owner=self.owner_only)

    def permits(self, request: HttpRequest, obj: Any = None) -> bool:
        """`obj` is a row, a tenant, an inline's parent, or (from unfold's actions) an id, left to the queryset."""
        if is_operator(request) or self.operators_only:
            return is_operator(request)
        tenant_ids = {tenant.pk for tenant in self.scope(request)}
        if isinstance(obj, Tenant):
            return obj.pk in tenant_ids
        if isinstance(obj, TenantOwned):
            return obj.tenant_id in tenant_ids
        return bool(tenant_ids)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.permits(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.writable and self.permits(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.writable and self.permits(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.writable and self.permits(request, obj)
