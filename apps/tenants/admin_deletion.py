"""What a delete confirmation says, counted in SQL: Django would load every row that goes with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.utils import quote
from django.db.models import CASCADE, PROTECT, RESTRICT, Model
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.text import capfirst

NAMED = 100  # rows that a confirmation names; the rest is counted


def summary_of_deletion(rows: Iterable[Model]) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
    """As ModelAdmin.get_deleted_objects: what goes, how many of each kind, missing permissions (never any: what
    hangs on a tenant's row is the tenant's), and what stands in the way."""
    chosen = list(rows)
    if not chosen:
        return [], {}, set(), []
    model = type(chosen[0])
    counts = {str(model._meta.verbose_name_plural): len(chosen)}
    blockers: list[str] = []
    for relation, found in _dependants(model, chosen):
        kind = str(relation.related_model._meta.verbose_name_plural)
        if relation.on_delete is CASCADE:
            counts[kind] = counts.get(kind, 0) + found
        else:
            blockers.append(f"{found} {kind if found > 1 else relation.related_model._meta.verbose_name}")
    named = [_link(row) for row in chosen[:NAMED]]
    if len(chosen) > NAMED:
        named.append(f"and {len(chosen) - NAMED} more")
    return named, counts, set(), blockers


def _dependants(model: type[Model], rows: list[Model]) -> Iterable[tuple[Any, int]]:
    for relation in model._meta.related_objects:
        if relation.on_delete not in (CASCADE, PROTECT, RESTRICT):
            continue
        found = relation.related_model._base_manager.filter(**{f"{relation.field.name}__in": rows}).count()
        if found:
            yield relation, found


def _link(row: Model) -> str:
    kind = capfirst(str(row._meta.verbose_name))
    try:
        url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=(quote(row.pk),))
    except NoReverseMatch:
        return f"{kind}: {row}"
    return format_html('{}: <a href="{}">{}</a>', kind, url, row)
