"""Promises to tell of limits of which 80% or all is used, in a row of each: so it is told once, whoever dies."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import structlog
from django.conf import settings
from django.db import connection

from apps.tenants import lookups
from apps.tenants.models import EndUser, Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage.counters import Counter
from apps.usage.models import QuotaAlert
from apps.webhooks.deliveries import Happened, announce
from apps.webhooks.models import Event

log = structlog.get_logger(__name__)

KEPT: Final = dt.timedelta(days=40)  # after the window's end
# Thousands of people may reach one and the same limit: mails and operators hear of the first of them.
OF_MANY: Final = ("user", "visitor")
_LOCK = "SELECT pg_advisory_xact_lock(1431519560, hashtext(%s)), now()"

# By limit and window, how much of it was used when each threshold was told.
Told = Mapping[tuple[Any, ...], Sequence[tuple[int, int]]]


class Passed(NamedTuple):
    """More than the least threshold of a limit is used, in the counter's window. refused: and a question was, since it
    asked for more than was left. Then there is as little to be had as where all is used."""

    counter: Counter
    used: int
    refused: bool = False

    def passes(self, threshold: int) -> bool:
        return self.used * 100 >= threshold * self.counter.limit.amount or self.refused


def told_of(tenant: Tenant, counters: Sequence[Counter]) -> Told:
    told: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    rows = QuotaAlert.objects.for_tenant(tenant).filter(ends__in={counter.end for counter in counters})
    for row in rows:
        of = row.level, row.subject, row.metric, row.window, row.begins
        # Of a limit that refused it was told that all of it is used, though less was.
        told.setdefault(of, []).append((row.threshold, max(int(row.used), row.threshold * int(row.amount) // 100)))
    return told


def _is_news(counter: Counter, threshold: int, told: Told) -> bool:
    """Whether nobody was told that so much of the limit, as large as it is now, is used. One that was raised beyond
    what was used then is told of again, and one that was lowered is not."""
    limit = counter.limit
    of = limit.account.level, limit.account.subject, limit.metric, limit.window, counter.begin
    return not any(known == threshold and used * 100 >= threshold * limit.amount for known, used in told.get(of, ()))


def least_untold(counter: Counter, told: Told) -> int:
    return min((each for each in QuotaAlert.Threshold.values if _is_news(counter, each, told)), default=0)


def promise(tenant: Tenant, passed: Sequence[Passed]) -> int:
    """Write down what is to be told, and tell the tenant's webhooks, in one transaction; how much there is."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [str(tenant.pk)])
        [(_, now)] = cursor.fetchall()
    told = told_of(tenant, [each.counter for each in passed])
    names = _names(tenant, passed)
    known = set(_told_of_many(tenant, passed))
    rows: list[QuotaAlert] = []
    for one in passed:
        news = [each for each in QuotaAlert.Threshold.values if one.passes(each) and _is_news(one.counter, each, told)]
        for threshold in news:
            row = _row(tenant, one.counter, threshold, one.used)
            row.known_as, row.created, row.told = names.get(row.subject, row.subject), now, threshold == news[-1]
            if row.told and tenant.is_active and _kind(row) not in known:
                row.mail_at = now if settings.PARLEY_MAIL else None
                row.operators_at = now if settings.PARLEY_OPERATOR_WEBHOOK_URL else None
            if row.told and row.level in OF_MANY:
                known.add(_kind(row))
            rows.append(row)
    QuotaAlert.objects.bulk_create(rows)
    spoken = [row for row in rows if row.told]
    for row in spoken:
        announce(tenant.pk, Event.QUOTA_REACHED, partial(_happened, row))
        log.info("quota.reached", tenant=tenant.slug, limit=row.told_to_webhooks["limit"], threshold=row.threshold)
    return len(spoken)


def _happened(row: QuotaAlert) -> Happened:
    return Happened(None, row.told_to_webhooks)


def _row(tenant: Tenant, counter: Counter, threshold: int, used: int) -> QuotaAlert:
    limit = counter.limit
    return QuotaAlert(
        tenant=tenant,
        level=limit.account.level,
        subject=limit.account.subject,
        metric=limit.metric,
        window=limit.window,
        begins=counter.begin,
        ends=counter.end,
        threshold=threshold,
        amount=limit.amount,
        used=used,
        hard=limit.hard,
    )


def _kind(row: QuotaAlert) -> tuple[Any, ...]:
    return row.level, row.metric, row.window, row.begins, row.threshold, int(row.amount)


def _told_of_many(tenant: Tenant, passed: Sequence[Passed]) -> Iterator[tuple[Any, ...]]:
    rows = QuotaAlert.objects.for_tenant(tenant).filter(level__in=OF_MANY, told=True)
    return map(_kind, rows.filter(ends__in={each.counter.end for each in passed}))


def _names(tenant: Tenant, passed: Sequence[Passed]) -> dict[str, str]:
    """What a tenant calls its end users."""
    ids = {each.counter.limit.account.subject for each in passed if each.counter.limit.account.level in OF_MANY}
    rows = EndUser.objects.for_tenant(tenant).filter(pk__in=ids).values_list("pk", "external_id")
    return {str(pk): external_id for pk, external_id in rows}


def prune() -> int:
    """Delete what was told of windows long past; how many rows."""
    deleted = 0
    for tenant_id in lookups.all_tenants():
        with tenant_scope(tenant_id):
            old = QuotaAlert.objects.for_tenant(tenant_id).filter(ends__lt=dt.datetime.now(dt.UTC) - KEPT)
            deleted += old._raw_delete("default")
    return deleted
