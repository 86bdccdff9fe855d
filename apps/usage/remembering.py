"""Whom this process refused a moment ago, so that Redis is asked first at their next question, before anything is read.

It also remembers of which tenants they are: Redis may well say no to the next question, too, so that is written only
once Redis has said yes.

It is remembered that they were refused, and not what they were told: what counts is what Redis says then. So a raised
limit, a grant and what was given back help at once, and nobody else pays for a look that says nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable

from apps.tenants.models import Tenant
from apps.usage.limits import Accounts
from chatbot.quota import Account, Limit

SECONDS = 10.0
MOST = 10_000

_Subject = tuple[str, str]  # a level, and the subject by which a tenant's limits name it
_refused: dict[tuple[uuid.UUID, _Subject], tuple[Account, float]] = {}
_tenants: dict[uuid.UUID, float] = {}


def tells(limit: Limit) -> bool:
    """Whether a limit with nothing left refuses any question, whatever it asks for, and for as long as it says: costs
    may be nothing, and how long tokens of a minute take depends on how many."""
    metric = limit.metric
    return limit.hard and (metric in {"requests", "turns"} or (metric == "tokens" and limit.window != "minute"))


def remember(tenant: Tenant, accounts: Accounts, limit: Limit) -> None:
    """A limit that holds for these accounts has refused."""
    if len(_tenants) >= MOST:
        _tenants.clear()
    _tenants[tenant.pk] = time.monotonic() + SECONDS
    if not tells(limit):
        return
    if len(_refused) >= MOST:
        _refused.clear()
    for account, subject in accounts:
        if account == limit.account:
            _refused[tenant.pk, (account.level, subject)] = account, time.monotonic() + SECONDS


def was_refused(tenant: Tenant) -> bool:
    """Whether any limit of the tenant's refused anything a moment ago."""
    return _tenants.get(tenant.pk, 0.0) > time.monotonic()


def anybody() -> bool:
    return bool(_refused)


def refused(tenant: Tenant, subjects: Iterable[_Subject]) -> Accounts:
    """Whose limits refused a moment ago, of these."""
    now = time.monotonic()
    known = [(subject, _refused.get((tenant.pk, subject), (None, 0.0))) for subject in subjects]
    return [(account, subject[1]) for subject, (account, until) in known if account is not None and until > now]


def forget() -> None:
    _refused.clear()
    _tenants.clear()
