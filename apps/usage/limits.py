"""Which limits hold for whom: a tenant's own before its plan's, the one for somebody before the one for each."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from django.db import transaction
from django.utils import timezone

from apps.access.authentication import Caller
from apps.edge import bus
from apps.tenants.models import EndUser, Tenant
from apps.tenants.scoping import unit
from apps.usage.limit_models import Grant, LimitedUse, Limiting, PlanLimit, Quota, TenantPlan, plan_of
from chatbot.quota import ASKED, Account, Limit, Metric, Window, cost_units

# How long a process goes by limits that it has read, should nobody tell it of a change.
FRESH_SECONDS = 10.0
MOST_TENANTS = 10_000
CHANGED = "limits.changed"
ASKING = "chat:write"  # the scope of whatever asks a model

_Kind = tuple[str, str, str]  # level, metric, window
Accounts = Sequence[tuple[Account, str]]  # each with the subject by which a tenant's own limits name it


@dataclass(frozen=True, slots=True)
class _Rule:
    row: Limiting
    grants: Sequence[Grant]

    def of(self, account: Account, subject: str, at: dt.datetime) -> Limit:
        row = self.row
        more = sum(
            (grant.amount for grant in self.grants if grant.expires > at and grant.subject in ("", subject)),
            start=row.amount * 0,
        )
        amount = row.amount + more
        return Limit(
            account,
            cast("Metric", row.metric),
            cast("Window", row.window),
            cost_units(amount) if row.metric == LimitedUse.Metric.COST else int(amount),
            burst=row.burst or 0,
            hard=row.hard,
        )


class Limits:
    """All limits of a tenant. version: another one after each change of whose use is counted."""

    def __init__(
        self, version: str, plan: Iterable[PlanLimit], quotas: Iterable[Quota], grants: Sequence[Grant]
    ) -> None:
        self.version = version
        self._each: dict[_Kind, _Rule] = {}
        self._one: dict[tuple[str, _Kind], _Rule] = {}
        for row in plan:
            self._each[_kind(row)] = _Rule(row, [grant for grant in grants if _kind(grant) == _kind(row)])
        for quota in quotas:
            rule = _Rule(quota, [grant for grant in grants if _kind(grant) == _kind(quota)])
            if quota.subject:
                self._one[quota.subject, _kind(quota)] = rule
            else:
                self._each[_kind(quota)] = rule

    def __bool__(self) -> bool:
        """Whether any of them is of what questions use."""
        kinds = [*self._each, *(kind for _, kind in self._one)]
        return any(metric in ASKED for _, metric, _ in kinds)

    def of(self, accounts: Accounts, metrics: frozenset[Metric] = ASKED, at: dt.datetime | None = None) -> list[Limit]:
        """Those of these metrics that hold for these accounts, with what is granted now, or was then."""
        moment = at or timezone.now()
        found = []
        for account, subject in accounts:
            rules = {kind: rule for kind, rule in self._each.items() if kind[0] == account.level}
            rules |= {
                kind: rule for (named, kind), rule in self._one.items() if named == subject and kind[0] == account.level
            }
            found += [rule.of(account, subject, moment) for kind, rule in rules.items() if kind[1] in metrics]
        return found

    def rules(self) -> list[tuple[_Kind, str]]:
        """What limits there are: each one's kind, and whom alone it is of, or an empty text for each of a level."""
        return [*((kind, "") for kind in self._each), *((kind, named) for named, kind in self._one)]


def accounts_of(
    *,
    assistant_id: uuid.UUID | None,
    api_key_id: uuid.UUID | None,
    oauth_client_id: uuid.UUID | None,
    end_user: EndUser | None,
    scope: str,
) -> list[tuple[Account, str]]:
    """On whose accounts a piece of work goes, as the ledger's row can tell afterwards, with what limits call them."""
    found = [(Account("tenant"), ""), (Account("scope", scope), scope)]
    for level, pk in (("assistant", assistant_id), ("key", api_key_id), ("client", oauth_client_id)):
        if pk:
            found.append((Account(level, str(pk)), str(pk)))
    if end_user:
        level = "visitor" if end_user.external_id.startswith("visitor:") else "user"
        found.append((Account(level, str(end_user.pk)), end_user.external_id))
    return found


def accounts_of_caller(
    caller: Caller, *, assistant_id: uuid.UUID | None, end_user: EndUser | None, scope: str
) -> list[tuple[Account, str]]:
    return accounts_of(
        assistant_id=assistant_id,
        api_key_id=caller.api_key_id,
        oauth_client_id=caller.oauth_client_id,
        end_user=end_user,
        scope=scope,
    )


_known: dict[uuid.UUID, tuple[Limits, float]] = {}


async def limits_of(tenant: Tenant) -> Limits:
    """A tenant's limits, at most FRESH_SECONDS old. Not inside a transaction: it may need one."""
    limits, until = _known.get(tenant.pk, (None, 0.0))
    if limits is None or until <= time.monotonic():
        # Once for all who ask meanwhile: a crowd of questions would else take a crowd of connections.
        reading = _reading.get(tenant.pk)
        if reading is None or reading.done() or reading.get_loop() is not asyncio.get_running_loop():
            reading = _reading[tenant.pk] = asyncio.create_task(_read(tenant), context=contextvars.Context())
        limits = await asyncio.shield(reading)
    return limits


_reading: dict[uuid.UUID, asyncio.Task[Limits]] = {}


async def _read(tenant: Tenant) -> Limits:
    try:
        limits = await unit(read, tenant)
    finally:
        _reading.pop(tenant.pk, None)  # another loop's may have taken its place
    if len(_known) >= MOST_TENANTS:
        _known.clear()
    _known[tenant.pk] = limits, time.monotonic() + FRESH_SECONDS
    return limits


def read(tenant: Tenant, *, granted_since: dt.datetime | None = None) -> Limits:
    """A tenant's limits as they stand in the database, with grants that have not ended, or not before then. Call it in
    the tenant's scope."""
    own, plan = TenantPlan.objects.for_tenant(tenant).first(), plan_of(tenant.pk)
    changes = [row.changed for row in (own, plan) if row]
    return Limits(
        f"{max(changes).timestamp():.6f}" if changes else "0",
        plan.limits.all() if plan else (),
        Quota.objects.for_tenant(tenant),
        list(Grant.objects.for_tenant(tenant).filter(expires__gt=granted_since or timezone.now())),
    )


def changed() -> None:
    """Have every process read its limits again, once this transaction commits."""
    transaction.on_commit(partial(bus.publish, CHANGED, None), robust=True)


def forget(_: object = None) -> None:
    _known.clear()


bus.subscribe(CHANGED, forget)


def _kind(row: LimitedUse) -> _Kind:
    return row.level, row.metric, row.window
