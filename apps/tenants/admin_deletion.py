"""Deleting: what a confirmation says, counted in SQL and not loaded, and rows of the platform that tenants refer to."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib.admin.utils import quote
from django.db import transaction
from django.db.models import CASCADE, PROTECT, RESTRICT, SET_NULL, Model
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.text import capfirst

from apps.tenants.models import PLATFORM
from apps.tenants.routing import OPERATOR
from apps.tenants.scoping import TenantOwned, tenant_scope

NAMED = 100  # rows that a confirmation names; the rest is counted


def summary_of_deletion(rows: Iterable[Model]) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
    """As ModelAdmin.get_deleted_objects: what goes, how many of each kind, missing permissions (never any: what
    hangs on a tenant's row is the tenant's), and what stands in the way."""
    chosen = list(rows)
    if not chosen:
        return [], {}, set(), []
    model = type(chosen[0])
    counts = Counter({str(model._meta.verbose_name_plural): len(chosen)})
    blockers = []
    for relation, found in _dependants(model, chosen):
        options = relation.related_model._meta
        if relation.on_delete is CASCADE:
            counts[str(options.verbose_name_plural)] += found
        else:
            blockers.append(f"{found} {options.verbose_name if found == 1 else options.verbose_name_plural}")
    named = [_link(row) for row in chosen[:NAMED]]
    if len(chosen) > NAMED:
        named.append(f"and {len(chosen) - NAMED} more")
    return named, dict(counts), set(), blockers


def _dependants(model: type[Model], rows: list[Model]) -> Iterator[tuple[Any, int]]:
    """Relations to `rows` with the number of rows behind each, through as many deletions as follow from theirs.

    Breadth first, and no model's deletions twice: messages go with their conversation, not once more with their turn.
    """
    waiting = deque((relation, relation.field.name) for relation in _relations(model))
    gone = {model}
    while waiting:
        relation, way = waiting.popleft()
        dependant = relation.related_model
        if dependant in gone and relation.on_delete is not PROTECT:
            continue
        count = dependant._base_manager.filter(**{f"{way}__in": rows}).count()
        if count and not dependant._meta.auto_created:  # the table of a plain many-to-many means nothing to people
            yield relation, count
        if count and relation.on_delete is CASCADE:
            gone.add(dependant)
            waiting.extend((each, f"{each.field.name}__{way}") for each in _relations(dependant))


def _relations(model: type[Model], *more: Any) -> list[Any]:
    """What points at the model and does not merely forget it when it goes; those that do with SET_NULL as `more`."""
    fields: list[Any] = [*model._meta.get_fields(include_hidden=True)]
    return [
        field
        for field in fields
        if getattr(field, "on_delete", None) in (CASCADE, PROTECT, RESTRICT, *more) and field.auto_created
    ]


def _link(row: Model) -> str:
    kind = capfirst(str(row._meta.verbose_name))
    try:
        url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=(quote(row.pk),))
    except NoReverseMatch:
        return f"{kind}: {row}"
    return format_html('{}: <a href="{}">{}</a>', kind, url, row)


@transaction.atomic
def delete_for_all_tenants(row: Model) -> None:
    """Delete a row of the platform: each tenant's rows that hang on it go, or forget it, in that tenant's scope."""
    for relation in _relations(type(row), SET_NULL):
        model, name = relation.related_model, relation.field.name
        if not issubclass(model, TenantOwned) or relation.on_delete in (PROTECT, RESTRICT):
            continue
        found = model._base_manager.using(OPERATOR).filter(**{name: row}).order_by().values_list("tenant_id", flat=True)
        for tenant_id in found.distinct():
            with tenant_scope(tenant_id):
                rows = model._base_manager.filter(**{name: row})
                rows.update(**{name: None}) if relation.on_delete is SET_NULL else rows.delete()
    # In a scope that has no rows: Django looks for them once more.
    with tenant_scope(PLATFORM):
        row.delete()
