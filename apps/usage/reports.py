"""Adds usage up, by one thing or by several.

The answer equals the ledger's own sum at any time: a span counts as rolled up only while nothing in it has changed.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.models import QuerySet

from apps.tenants.models import EndUser, Tenant
from apps.usage.models import RolledDay, UsageRecord
from apps.usage.naming import names_of
from apps.usage.report_statement import BILLS, COUNTED, SETTINGS, Whose, statement

# More groups than this are not told apart; the records themselves can still be read.
MAX_GROUPS = 1_000
GROUPS = ("day", "assistant", "user", "key", "client", "model", "kind")
CHUNK = 2_000  # groups in memory at once where there may be many


@dataclass(frozen=True, slots=True)
class Report:
    """total: of everything, as a dict. groups: the same for each group, with its `key`, its `name` where people gave it
    one, and, where it is of one tenant, `tenant_id`."""

    total: dict[str, Any]
    groups: list[dict[str, Any]]


def records_of(tenant: Tenant, first: dt.date, last: dt.date, *, user: str = "") -> QuerySet[UsageRecord]:
    """The ledger's rows of whole days, in the tenant's time zone, the last day included."""
    zone = ZoneInfo(tenant.time_zone)
    begin = dt.datetime.combine(first, dt.time(), zone)
    end = dt.datetime.combine(last + dt.timedelta(days=1), dt.time(), zone)
    rows: QuerySet[UsageRecord] = UsageRecord.objects.for_tenant(tenant).filter(created__gte=begin, created__lt=end)
    return rows.filter(end_user__external_id=user) if user else rows


def add_up(
    tenant: Tenant | None, first: dt.date, last: dt.date, by: str, *, user: str = "", most: int = MAX_GROUPS
) -> Report:
    """Usage of whole days in the tenant's time zone, the last day included, by one of GROUPS: days in order, anything
    else by its tokens, most first, and no more groups than `most`.

    tenant: None for all of them together, each in its own zone, and also by "tenant"; then within across_tenants().
    user: of this end user alone. cost is in the currency of the installation.
    """
    return add_up_by(tenant, first, last, [by], user=user, most=most)[by]


def add_up_by(
    tenant: Tenant | None,
    first: dt.date,
    last: dt.date,
    bys: Sequence[str],
    *,
    user: str = "",
    most: int = MAX_GROUPS,
    tenants: Sequence[uuid.UUID] | None = None,
) -> dict[str, Report]:
    """The same by several things, each by itself, of one moment. tenants: of all of them, only these."""
    query = statement(bys, _whose(tenant, tenants), of_user=bool(user))
    with asked(tenant, first, last, query, user=user, most=most, tenants=tenants) as cursor:
        rows = cursor.fetchall()
    found = {}
    for by in bys:
        [total, *groups] = [row for row in rows if row[0] == by]
        found[by] = Report(sums(total[4:]), _named(by, groups))
    return found


def groups_in_chunks(
    tenant: Tenant | None, first: dt.date, last: dt.date, by: str, *, user: str = "", most: int
) -> Iterator[list[dict[str, Any]]]:
    """The groups of add_up(), some at a time; the cursor stays in the database until the last was taken."""
    query = statement([by], _whose(tenant), of_user=bool(user))
    with asked(tenant, first, last, query, user=user, chunked=True, most=most) as cursor:
        while rows := cursor.fetchmany(CHUNK):
            yield _named(by, [row for row in rows if not row[3]])


@contextmanager
def asked(
    tenant: Tenant | None,
    first: dt.date,
    last: dt.date,
    query: str,
    *,
    user: str = "",
    chunked: bool = False,
    **given: Any,
) -> Iterator[Any]:
    """A cursor at the rows of a query that begins with report_statement.spans()."""
    # One end user's use is few rows a day, and has no months.
    pieces = list(_pieces(first, last, months=not user))
    given |= {name: [piece[n] for piece in pieces] for n, name in enumerate(("firsts", "lasts", "whole"))}
    given |= {"first": first, "last": last, "tenant": tenant and tenant.pk}
    if user and tenant is not None:
        found = EndUser.objects.for_tenant(tenant).filter(external_id=user).values_list("pk", flat=True)
        given["user"] = found.first()
    alias = router.db_for_read(RolledDay) or DEFAULT_DB_ALIAS
    connection = connections[alias]
    with transaction.atomic(alias):
        with connection.cursor() as cursor:
            cursor.execute(SETTINGS)
        with connection.chunked_cursor() if chunked else connection.cursor() as cursor:
            cursor.execute(query, given)
            yield cursor


def _whose(tenant: Tenant | None, tenants: Sequence[uuid.UUID] | None = None) -> Whose:
    if tenant is not None:
        return "one"
    return "all" if tenants is None else "some"


def _pieces(first: dt.date, last: dt.date, *, months: bool) -> Iterator[tuple[dt.date, dt.date, bool]]:
    """The span cut where months begin: first and last day of each piece, and whether it is a whole month."""
    while first <= last:
        following = (first.replace(day=1) + dt.timedelta(days=31)).replace(day=1)
        end = min(last, following - dt.timedelta(days=1))
        yield first, end, months and (end - first).days + 1 == (following - first.replace(day=1)).days
        first = following


def _named(by: str, rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    names = names_of(by, [row[1] for row in rows])
    return [{"key": row[1], "name": names.get(row[1]), "tenant_id": row[2], **sums(row[4:])} for row in rows]


def sums(row: Sequence[Any]) -> dict[str, Any]:
    """Of the values of COUNTED."""
    counted = dict(zip(COUNTED, row, strict=True))
    numbers = {name: int(count) for name, count in counted.items() if name != "cost" and name not in BILLS}
    numbers["total_tokens"] = numbers["prompt_tokens"] + numbers["completion_tokens"]
    return {**numbers, "cost": counted["cost"], "bills": {bill: int(counted[bill]) for bill in BILLS}}
