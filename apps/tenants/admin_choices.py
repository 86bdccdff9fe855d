"""What drop-downs and filters of the admin may offer: rows of given tenants, and nothing that names another's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.admin.utils import get_fields_from_path
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Field, Model, Q, QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter

from apps.tenants.admin_access import tenants_of
from apps.tenants.models import Tenant, User
from apps.tenants.scoping import TenantOwned


def within(rows: QuerySet[Any], tenants: Sequence[Tenant] | QuerySet[Tenant]) -> QuerySet[Any]:
    """`rows` as far as these tenants may know of them.

    A row of the platform that is lent to tenants through a field `tenants` (an endpoint) is known where it is lent,
    or to all when it is lent to none in particular.
    """
    model = rows.model
    if issubclass(model, TenantOwned):
        return rows.filter(tenant__in=tenants)
    if issubclass(model, Tenant):
        return rows.filter(pk__in=[tenant.pk for tenant in tenants])
    if issubclass(model, User):
        return rows.filter(memberships__tenant__in=tenants).distinct()
    if any(field.name == "tenants" for field in model._meta.many_to_many):
        return rows.filter(Q(tenants=None) | Q(tenants__in=tenants)).distinct()
    return rows


class OwnRelatedFilter(RelatedDropdownFilter):
    """Django's filter by a relation lists every row there is; this one only those of the page's tenants."""

    def field_choices(self, field: Field[Any, Any], request: HttpRequest, model_admin: Any) -> list[Any]:
        remote: type[Model] = field.remote_field.model  # type: ignore[union-attr]
        rows = within(remote._default_manager.all(), tenants_of(request))
        return [(str(row.pk), str(row)) for row in rows]


def offered_filters(model: type[Model], entries: Iterable[Any]) -> list[Any]:
    """`list_filter` entries, with plain names of relations and choices turned into scoped drop-downs."""
    return [_offered(model, entry) for entry in entries]


def _offered(model: type[Model], entry: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    try:
        field: Any = get_fields_from_path(model, entry)[-1]
    except FieldDoesNotExist:
        return entry
    if field.is_relation:
        return entry, OwnRelatedFilter
    return (entry, ChoicesDropdownFilter) if field.choices else entry
