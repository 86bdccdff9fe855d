"""Whatever is reserved, settled, given back, lost by a crash or by Redis, in any order: it is admitted as long as the
limits hold, and the counters say what the ledger says."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule, run_state_machine_as_test

from apps.edge.shared_state import redis
from apps.tenants.models import EndUser, Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage import ledger, limits, meter, sweeping
from apps.usage.limits import accounts_of
from apps.usage.models import UsageRecord
from apps.usage.reconciling import reconcile
from chatbot.errors import QuotaExceeded, RateLimited
from chatbot.events import Usage
from chatbot.quota import COST_UNITS, Amounts
from tests import factories

TOKENS, USER_TOKENS, REQUESTS, TURNS, MONEY = 200, 120, 15, 4, 3 * COST_UNITS
SOME = st.integers(0, 60)


class Counting(RuleBasedStateMachine):
    """Against an oracle that adds up."""

    runner: asyncio.Runner
    reservations = Bundle("reservations")

    @initialize()
    def begin(self) -> None:
        self.tenant: Tenant = factories.make_tenant()
        self.users: list[EndUser] = [factories.make_end_user(tenant=self.tenant) for _ in range(2)]
        for level, metric, window, amount in (
            ("tenant", "tokens", "day", TOKENS),
            ("user", "tokens", "month", USER_TOKENS),
            ("tenant", "requests", "day", REQUESTS),
            ("tenant", "turns", "once", TURNS),
            ("tenant", "cost", "month", MONEY // COST_UNITS),
        ):
            factories.make_quota(tenant=self.tenant, level=level, metric=metric, window=window, amount=amount)
        self.open: dict[uuid.UUID, tuple[int, Amounts]] = {}
        self.used: list[tuple[int, Amounts]] = []

    def run_in_loop(self, work: Callable[[], Any]) -> Any:
        return self.runner.run(work())

    def total(self, metric: str, user: int | None = None) -> int:
        rows = [*self.open.values(), *self.used]
        return sum(getattr(amounts, metric) for whose, amounts in rows if user in (None, whose))

    def fits(self, user: int, asked: Amounts) -> bool:
        return (
            self.total("tokens") + asked.tokens <= TOKENS
            and self.total("tokens", user) + asked.tokens <= USER_TOKENS
            and self.total("requests") + 1 <= REQUESTS
            and self.total("cost") + asked.cost <= MONEY
            and len(self.open) + 1 <= TURNS
        )

    @rule(target=reservations, user=st.integers(0, 1), tokens=SOME, cents=SOME, entered=st.booleans())
    def reserve(self, user: int, tokens: int, cents: int, entered: bool) -> uuid.UUID | None:
        """entered: whether the process lived long enough to write the ledger's row."""
        asked = Amounts(requests=1, tokens=tokens, cost=cents * COST_UNITS // 100, turns=1)
        reservation, end_user = uuid.uuid4(), self.users[user]
        accounts = accounts_of(
            assistant_id=None, api_key_id=None, oauth_client_id=None, end_user=end_user, scope="chat:write"
        )
        fits = self.fits(user, asked)
        try:
            reserved = self.run_in_loop(lambda: meter.reserve(self.tenant, reservation, accounts, asked))
        except (QuotaExceeded, RateLimited):
            assert not fits
            return None
        assert fits
        if not entered:
            self.sweep_now()  # what the crash left is swept at once here; others' is not touched
            return None
        with tenant_scope(self.tenant):
            UsageRecord.objects.create(
                tenant=self.tenant,
                turn_id=reservation,
                end_user=end_user,
                reserved_tokens=tokens,
                reserved_cost=Decimal(asked.cost) / COST_UNITS,
                created=reserved.at,
            )
        self.open[reservation] = user, asked
        return reservation

    @rule(reservation=consumes(reservations), tokens=SOME, bill=st.sampled_from(["once", "delivered", "loss", "none"]))
    def settle(self, reservation: uuid.UUID | None, tokens: int, bill: str) -> None:
        if reservation is None:
            return
        used = self.in_ledger(reservation, tokens, bill)
        for _ in range(2):  # the second time changes nothing
            self.run_in_loop(lambda: meter.settle(self.tenant, reservation, used))

    @rule(reservation=consumes(reservations), tokens=SOME)
    def crash_after_the_ledger_was_settled(self, reservation: uuid.UUID | None, tokens: int) -> None:
        if reservation is not None:
            self.in_ledger(reservation, tokens, "once")
            self.sweep_now()

    @rule()
    def redis_forgets(self) -> None:
        self.run_in_loop(self.flush)

    @rule()
    def limits_change(self) -> None:
        factories.make_quota(
            tenant=self.tenant, level="key", subject=str(uuid.uuid4()), metric="tokens", window="day", amount=5
        )

    @rule()
    def counters_say_what_the_ledger_says(self) -> None:
        found = self.run_in_loop(lambda: reconcile(self.tenant, repair=False))
        assert not found.differ

    def in_ledger(self, reservation: uuid.UUID, tokens: int, bill: str) -> Amounts:
        user, _ = self.open.pop(reservation)
        with tenant_scope(self.tenant):
            used = ledger.settle(self.tenant, turn_id=reservation, bill=bill, usage=Usage(tokens, 0), endpoint_id=None)
        assert used is not None
        self.used.append((user, used))
        return used

    def sweep_now(self) -> None:
        self.run_in_loop(sweeping.sweep)

    @staticmethod
    async def flush() -> None:
        await (await redis()).flushdb()


@pytest.mark.timeout(600)
def test_counters_and_ledger_never_part(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "GRACE", -1.0)
    monkeypatch.setattr("apps.usage.reconciling.PAUSE", 0.0)
    monkeypatch.setattr(limits, "FRESH_SECONDS", 60.0)
    with asyncio.Runner() as Counting.runner:
        run_state_machine_as_test(
            Counting,
            settings=settings(
                max_examples=25,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
