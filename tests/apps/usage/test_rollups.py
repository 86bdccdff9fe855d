"""Roll-ups: whatever happens to the ledger and whenever it is rolled up, every report equals the ledger's own sum."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connections, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.tenants import keys, rights
from apps.tenants.models import ApiKey, EndUser, Tenant
from apps.tenants.routing import across_tenants
from apps.tenants.scoping import tenant_scope
from apps.usage import rollups
from apps.usage.models import (
    DailyUsageByUser,
    DailyUse,
    DailyUser,
    MonthlyUse,
    MonthlyUser,
    RolledDay,
    RolledMonth,
    UsageRecord,
)
from apps.usage.most_used import of_all_tenants, who_used_most
from apps.usage.report_statement import BILLS
from apps.usage.reports import GROUPS, add_up, add_up_by
from tests import factories

# One whose days begin a day early, one late, one that is set back at midnight, so that it has two of them.
ZONES = ("UTC", "Asia/Tokyo", "America/Los_Angeles", "America/Havana")
ASSISTANTS = tuple(uuid.UUID(int=n) for n in (1, 2))
CLIENT = uuid.UUID(int=3)
DAYS = 12
WITH_MONTH = 66  # so many that there is always a whole month among them
Sums = dict[str, Any]


def put(tenant: Tenant, when: dt.datetime, **fields: Any) -> UsageRecord:
    """A settled record of 10 + 5 tokens."""
    settled = {"state": "settled", "bill": "once", "settled_at": when, "prompt_tokens": 10, "completion_tokens": 5}
    return UsageRecord.objects.create(
        **{"tenant": tenant, "turn_id": uuid.uuid4(), "created": when, **settled, **fields}
    )


def issue(tenant: Tenant) -> ApiKey:
    with tenant_scope(tenant):
        account = keys.service_account(tenant, "Tests")
        return keys.issue(tenant, name="test", scopes=rights.ALL, service_account=account)[0]


def settle(record: UsageRecord, **fields: Any) -> None:
    record.state, record.bill, record.settled_at, record.prompt_tokens = "settled", "delivered", timezone.now(), 7
    for name, value in fields.items():
        setattr(record, name, value)
    record.save()


def keys_of(record: UsageRecord, zone: ZoneInfo) -> dict[str, str | None]:
    named = {
        "day": record.created.astimezone(zone).date(),
        "assistant": record.assistant_id,
        "user": record.end_user.external_id if record.end_user else None,
        "key": record.api_key_id,
        "client": record.oauth_client_id,
        "model": record.model or None,
        "kind": record.kind,
    }
    return {by: None if key is None else str(key) for by, key in named.items()}


def plain_sums(records: list[UsageRecord]) -> Sums:
    """By counting them."""
    asked = [record for record in records if record.kind != "ingestion"]
    return {
        "requests": len(asked),
        "unsettled": sum(record.state == "reserved" for record in asked),
        "prompt_tokens": sum(record.prompt_tokens for record in records),
        "completion_tokens": sum(record.completion_tokens for record in records),
        "total_tokens": sum(record.prompt_tokens + record.completion_tokens for record in records),
        "pages": sum(record.pages for record in records),
        "cost": sum((record.cost for record in records), Decimal(0)),
        "bills": {bill: sum(record.bill == bill for record in asked) for bill in BILLS},
    }


def counted(tenant: Tenant, first: dt.date, last: dt.date, by: str, user: str = "") -> tuple[Sums, dict[Any, Sums]]:
    zone = ZoneInfo(tenant.time_zone)
    groups = defaultdict(list)
    for record in UsageRecord.objects.for_tenant(tenant).select_related("end_user"):
        named = keys_of(record, zone)
        if str(first) <= str(named["day"]) <= str(last) and user in ("", named["user"]):
            groups[named[by]].append(record)
    everything = [record for records in groups.values() for record in records]
    return plain_sums(everything), {key: plain_sums(records) for key, records in groups.items()}


def reported(tenant: Tenant, first: dt.date, last: dt.date, by: str, user: str = "") -> tuple[Sums, dict[Any, Sums]]:
    with tenant_scope(tenant):
        report = add_up(tenant, first, last, by, user=user)
    names = plain_sums([]).keys()
    groups = {group["key"]: {name: group[name] for name in names} for group in report.groups}
    assert len(groups) == len(report.groups)
    return report.total, groups


def assert_equal(tenant: Tenant, days: int = DAYS) -> None:
    today = timezone.now().astimezone(ZoneInfo(tenant.time_zone)).date()
    for first, last in (
        (today - dt.timedelta(days=days + 2), today),
        (today - dt.timedelta(5), today - dt.timedelta(2)),
    ):
        for by in GROUPS:
            assert reported(tenant, first, last, by) == counted(tenant, first, last, by), by
        for by in ("day", "assistant"):
            assert reported(tenant, first, last, by, "alice") == counted(tenant, first, last, by, "alice")
        assert_who_used_most(tenant, first, last, 1, looked_at=1)
        assert_who_used_most(tenant, first, last, 2, looked_at=2)


def assert_who_used_most(tenant: Tenant, first: dt.date, last: dt.date, most: int, *, looked_at: int) -> None:
    """The same people as by counting all of them, whether or not those that were looked at suffice."""
    _, everybody = counted(tenant, first, last, "user")
    named = [(name, sums) for name, sums in everybody.items() if name is not None]
    named.sort(key=lambda each: (-each[1]["total_tokens"], -each[1]["requests"], each[0]))
    with tenant_scope(tenant):
        found = who_used_most(tenant, first, last, most, looked_at=looked_at)
    assert [(each["key"], {name: each[name] for name in plain_sums([])}) for each in found] == named[:most]


class Ledger:
    """Two tenants, and what Hypothesis does to their rows."""

    def __init__(self, days: int) -> None:
        self.days = days
        self.tenants = [factories.make_tenant(f"t-{uuid.uuid4().hex[:8]}", time_zone=zone) for zone in ZONES[:2]]
        self.rows: list[UsageRecord] = []

    def put(self, data: st.DataObject) -> None:
        tenant = data.draw(st.sampled_from(self.tenants))
        back = dt.timedelta(hours=data.draw(st.integers(0, self.days * 24 - 1)))
        fields: dict[str, Any] = {
            "assistant_id": data.draw(st.sampled_from([*ASSISTANTS, None])),
            "oauth_client_id": data.draw(st.sampled_from([CLIENT, None])),
            "model": data.draw(st.sampled_from(["", "small", "large"])),
            "kind": data.draw(st.sampled_from(UsageRecord.Kind.values)),
            "pages": data.draw(st.integers(0, 3)),
            "cost": Decimal(data.draw(st.integers(0, 10**9))) / 10**8,
        }
        if name := data.draw(st.sampled_from(["alice", "bob", "carol", ""])):
            fields["end_user"], _ = EndUser.objects.get_or_create(tenant=tenant, external_id=name)
        if data.draw(st.booleans()):
            fields["api_key"] = ApiKey.objects.filter(tenant=tenant).first() or issue(tenant)
        if data.draw(st.booleans()):
            fields |= {"state": "reserved", "bill": "", "settled_at": None, "prompt_tokens": 0, "completion_tokens": 0}
        else:
            fields["bill"] = data.draw(st.sampled_from(BILLS))
        self.rows.append(put(tenant, timezone.now() - back, **fields))

    def settle(self, data: st.DataObject) -> None:
        if row := self.some(data):
            settle(row)

    def forget(self, data: st.DataObject) -> None:
        """Somebody is deleted, or a key."""
        model = data.draw(st.sampled_from([EndUser, ApiKey]))
        if row := model.objects.filter(tenant=data.draw(st.sampled_from(self.tenants))).first():
            row.delete()
        self.rows = list(UsageRecord.objects.filter(tenant__in=self.tenants))

    def delete(self, data: st.DataObject) -> None:
        if row := self.some(data):
            UsageRecord.objects.filter(pk=row.pk).delete()
            self.rows = [each for each in self.rows if each.pk != row.pk]

    def move(self, data: st.DataObject) -> None:
        tenant = data.draw(st.sampled_from(self.tenants))
        tenant.time_zone = data.draw(st.sampled_from(ZONES))
        tenant.save()

    def roll_up(self, _: st.DataObject) -> None:
        rollups.roll_up()

    def roll_up_one_day(self, data: st.DataObject) -> None:
        day = timezone.now().date() - dt.timedelta(days=data.draw(st.integers(-1, self.days + 1)))
        rollups.rebuild(data.draw(st.sampled_from(self.tenants)).pk, day, day)

    def some(self, data: st.DataObject) -> UsageRecord | None:
        return data.draw(st.sampled_from(self.rows)) if self.rows else None


DEEDS = ["put"] * 6 + ["roll_up"] * 3 + ["move"] * 2 + ["settle", "forget", "delete", "roll_up_one_day"]


def equals_the_ledger(data: st.DataObject, *, days: int, deeds: int) -> None:
    with transaction.atomic():
        ledger = Ledger(days)
        for _ in range(4):
            ledger.put(data)
        ledger.roll_up(data)
        for deed in data.draw(st.lists(st.sampled_from(DEEDS), min_size=3, max_size=deeds)):
            getattr(ledger, deed)(data)
        for tenant in ledger.tenants:
            assert_equal(tenant, days)
        transaction.set_rollback(True)


@pytest.mark.timeout(300)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_reports_equal_the_ledger_whatever_happens(db: None, data: st.DataObject) -> None:
    equals_the_ledger(data, days=DAYS, deeds=20)


@pytest.mark.timeout(300)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_so_they_do_over_months(db: None, data: st.DataObject) -> None:
    equals_the_ledger(data, days=WITH_MONTH, deeds=10)


# --- What is rolled up, and when ---


def ago(days: int) -> dt.datetime:
    """Noon in UTC, so many days ago."""
    noon = timezone.now().replace(hour=12, minute=0, second=0, microsecond=0)
    return noon - dt.timedelta(days=days)


def rolled(tenant: Tenant) -> list[dt.date]:
    return list(RolledDay.objects.for_tenant(tenant).order_by("day").values_list("day", flat=True))


def total(tenant: Tenant, days: int = DAYS) -> Sums:
    return reported(tenant, ago(days).date(), ago(0).date(), "day")[0]


@pytest.fixture
def acme(db: None) -> Tenant:
    return factories.make_tenant("acme")


def test_days_that_are_over_are_read_from_roll_ups_and_today_from_the_ledger(acme: Tenant) -> None:
    for when in (ago(3), ago(3), ago(2), timezone.now()):
        put(acme, when)
    rollups.roll_up()
    yesterday = ago(1).date()
    assert [day for day in rolled(acme) if day < yesterday] == [ago(3).date(), ago(2).date()]
    assert ago(0).date() not in rolled(acme)
    assert total(acme)["requests"] == 4
    RolledDay.objects.filter(day=ago(3).date()).update(requests=1000)  # so it is them that are read
    DailyUser.objects.filter(day=ago(3).date()).update(requests=2000)
    DailyUse.objects.filter(day=ago(3).date(), by="kind").update(requests=3000)
    assert total(acme)["requests"] == 1002
    assert reported(acme, ago(3).date(), ago(0).date(), "user")[0]["requests"] == 2002
    assert reported(acme, ago(3).date(), ago(0).date(), "kind")[0]["requests"] == 3002
    rollups.rebuild(acme.pk, ago(3).date(), ago(0).date())
    assert total(acme)["requests"] == 4


def test_a_run_catches_up_after_weeks_and_the_next_has_nothing_to_do(acme: Tenant) -> None:
    put(acme, ago(80))
    put(acme, ago(4))
    assert rollups.roll_up() >= 79
    assert rolled(acme)[:79] == [ago(80 - n).date() for n in range(79)]
    assert rollups.roll_up() == 0
    assert total(acme, days=90)["requests"] == 2


def test_a_run_that_takes_too_long_leaves_the_rest_to_the_next(acme: Tenant) -> None:
    put(acme, ago(5))
    assert rollups.roll_up(seconds=0) == 0
    assert total(acme)["requests"] == 1
    assert rollups.roll_up() >= 4


def test_a_day_waits_for_its_last_turn(acme: Tenant) -> None:
    late = put(acme, ago(3), state="reserved", bill="", settled_at=None, prompt_tokens=0, completion_tokens=0)
    put(acme, ago(3))
    rollups.roll_up()
    assert ago(3).date() not in rolled(acme)
    assert (total(acme)["unsettled"], total(acme)["requests"]) == (1, 2)
    settle(late, completion_tokens=3)
    rollups.roll_up()
    assert ago(3).date() in rolled(acme)
    assert (total(acme)["unsettled"], total(acme)["total_tokens"]) == (0, 25)


@pytest.mark.parametrize(
    "change",
    [
        lambda row: UsageRecord.objects.filter(pk=row.pk).delete(),
        lambda row: UsageRecord.objects.filter(pk=row.pk).update(bill="loss"),
        lambda row: UsageRecord.objects.filter(pk=row.pk).update(created=ago(5)),
        lambda row: UsageRecord.objects.filter(pk=row.pk).update(cost=3),
        lambda row: UsageRecord.objects.filter(pk=row.pk).update(pages=3),
        lambda row: put(row.tenant, ago(3)),
    ],
    ids=["deleted", "bill", "moved", "cost", "pages", "inserted"],
)
def test_a_change_after_all_is_told_at_once_and_rolled_up_again(
    acme: Tenant, change: Callable[[UsageRecord], Any]
) -> None:
    row = put(acme, ago(3))
    put(acme, ago(6))
    rollups.roll_up()
    change(row)
    assert ago(3).date() not in rolled(acme)
    assert_equal(acme)
    rollups.roll_up()
    assert ago(3).date() in rolled(acme)
    assert_equal(acme)


def test_what_happens_today_touches_no_roll_up(acme: Tenant) -> None:
    put(acme, ago(3))
    rollups.roll_up()
    before = set(RolledDay.objects.values_list("pk", flat=True))
    settle(put(acme, timezone.now(), state="reserved", bill="", settled_at=None))
    UsageRecord.objects.filter(created=ago(3)).update(estimated=True)  # no sum of ours
    assert set(RolledDay.objects.values_list("pk", flat=True)) == before


def test_another_time_zone_rebuilds(acme: Tenant) -> None:
    for hour in range(48):
        put(acme, ago(5) + dt.timedelta(hours=hour))
    rollups.roll_up()
    acme.time_zone = "Asia/Tokyo"
    acme.save()
    assert_equal(acme)
    rollups.roll_up()
    assert {row.zone for row in RolledDay.objects.for_tenant(acme).filter(day__gte=ago(5).date())} == {"Asia/Tokyo"}
    assert_equal(acme)


def test_a_day_begins_with_the_first_of_two_midnights(db: None) -> None:
    # On 2 November 2025 Havana's clocks went from 1:00 back to 0:00.
    tenant = factories.make_tenant("havana", time_zone="America/Havana")
    for minute in range(0, 26 * 60, 30):
        put(tenant, dt.datetime(2025, 11, 2, 3, tzinfo=dt.UTC) + dt.timedelta(minutes=minute))
    day = dt.date(2025, 11, 2)
    for _ in range(2):
        assert reported(tenant, day, day, "day") == counted(tenant, day, day, "day")
        assert reported(tenant, day, day, "day")[0]["requests"] == 50
        assert rollups.rebuild(tenant.pk, day, day) == 1


def test_roll_ups_of_one_tenant_are_not_anothers(acme: Tenant) -> None:
    globex = factories.make_tenant("globex")
    put(globex, ago(3))
    put(acme, ago(3))
    rollups.roll_up(only=acme.pk)
    assert rolled(globex) == []
    put(globex, ago(3))
    assert ago(3).date() in rolled(acme)
    with tenant_scope(acme):
        assert add_up(globex, ago(5).date(), ago(0).date(), "day").total["requests"] == 0


def test_a_deleted_tenant_takes_its_roll_ups_along(acme: Tenant) -> None:
    put(acme, ago(WITH_MONTH))
    rollups.roll_up()
    assert MonthlyUse.objects.exists()
    assert MonthlyUser.objects.exists()
    acme.delete()
    days, months = (DailyUsageByUser, DailyUse, DailyUser, RolledDay), (MonthlyUse, MonthlyUser, RolledMonth)
    assert [model.objects.count() for model in (UsageRecord, *days, *months)] == [0] * 8


# --- Months ---


def months(tenant: Tenant) -> list[dt.date]:
    return list(RolledMonth.objects.for_tenant(tenant).order_by("day").values_list("day", flat=True))


def last_month() -> tuple[dt.date, dt.date]:
    """First and last day of the last month that is wholly over and settled."""
    last = (timezone.now() - dt.timedelta(days=2)).date().replace(day=1) - dt.timedelta(days=1)
    return last.replace(day=1), last


def noon(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(12), dt.UTC)


def test_whole_months_are_read_from_their_own_roll_ups(acme: Tenant) -> None:
    first, last = last_month()
    alice = factories.make_end_user(tenant=acme, external_id="alice")
    for day in (first - dt.timedelta(1), first, last, last + dt.timedelta(1)):
        put(acme, noon(day), model="small", end_user=alice)
    rollups.roll_up()
    assert first in months(acme)
    assert_equal(acme, WITH_MONTH)
    MonthlyUse.objects.filter(day=first, by="model").update(requests=1000)
    MonthlyUser.objects.filter(day=first).update(requests=2000)
    RolledMonth.objects.filter(day=first).update(requests=3000)
    wide = (first - dt.timedelta(1), last + dt.timedelta(1))
    assert reported(acme, *wide, "model")[0]["requests"] == 1002
    assert reported(acme, *wide, "user")[0]["requests"] == 2002
    with tenant_scope(acme):
        assert add_up(acme, *wide, "tenant").total["requests"] == 3002
    # A part of the month is read from its days, and so is what one end user used.
    assert reported(acme, first, last - dt.timedelta(1), "model")[0]["requests"] == 1
    assert reported(acme, *wide, "model", "alice")[0]["requests"] == 4
    rollups.rebuild(acme.pk, first, first)
    assert reported(acme, *wide, "model")[0]["requests"] == 4
    assert_equal(acme, WITH_MONTH)


def test_a_month_goes_with_its_days_and_comes_back_with_them(acme: Tenant) -> None:
    first, last = last_month()
    row = put(acme, noon(first))
    rollups.roll_up()
    assert first in months(acme)
    UsageRecord.objects.filter(pk=row.pk).update(prompt_tokens=1000)
    assert first not in months(acme)
    assert_equal(acme, WITH_MONTH)
    assert not rollups.rebuild_month(acme.pk, first)  # a day of it is not rolled up
    rollups.roll_up()
    assert first in months(acme)
    assert reported(acme, first, last, "model")[0]["prompt_tokens"] == 1000


def test_a_month_begins_with_the_first_use_and_is_withdrawn_by_an_earlier_one(acme: Tenant) -> None:
    first, last = last_month()
    put(acme, noon(first + dt.timedelta(9)))
    rollups.roll_up()
    assert first in months(acme)
    assert first not in rolled(acme)
    put(acme, noon(first), model="early")
    assert first not in months(acme)
    assert reported(acme, first, last, "model")[1].keys() == {None, "early"}
    rollups.roll_up()
    assert first in months(acme)
    assert_equal(acme, WITH_MONTH)


def test_a_month_that_is_not_over_is_not_rolled_up(acme: Tenant) -> None:
    put(acme, ago(WITH_MONTH))
    rollups.roll_up()
    assert timezone.now().date().replace(day=1) not in months(acme)


def test_a_month_is_rolled_up_twice_to_the_same(acme: Tenant) -> None:
    first, last = last_month()
    put(acme, noon(first), model="small")
    rollups.roll_up()
    before = reported(acme, first, last, "model"), MonthlyUse.objects.count(), MonthlyUser.objects.count()
    assert rollups.rebuild_month(acme.pk, first)
    assert (reported(acme, first, last, "model"), MonthlyUse.objects.count(), MonthlyUser.objects.count()) == before


# --- Others at the same time ---


def in_thread(work: Callable[[], Any]) -> Any:
    def run() -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    return ThreadPoolExecutor(1).submit(run)


def test_a_change_that_is_not_committed_yet_is_not_missed(database: None) -> None:
    acme = factories.make_tenant("acme")
    row = put(acme, ago(3))
    changed, go_on = threading.Event(), threading.Event()

    def change() -> None:
        with transaction.atomic():
            UsageRecord.objects.filter(pk=row.pk).update(prompt_tokens=1000)
            changed.set()
            assert go_on.wait(10)

    changing = in_thread(change)
    assert changed.wait(10)
    rolling = in_thread(lambda: rollups.rebuild_days(acme.pk, [ago(3).date()]))
    with pytest.raises(TimeoutError):
        rolling.result(timeout=0.5)
    go_on.set()
    changing.result(10)
    assert rolling.result(10) == 1
    assert total(acme)["prompt_tokens"] == 1000


def test_all_tenants_together(database: None) -> None:
    acme, tokyo = factories.make_tenant("acme"), factories.make_tenant("globex", time_zone="Asia/Tokyo")
    for tenant, count in ((acme, 1), (tokyo, 2)):
        for _ in range(count):
            put(tenant, ago(3), end_user=EndUser.objects.get_or_create(tenant=tenant, external_id="alice")[0])
            put(tenant, timezone.now(), model="large")
    rollups.roll_up()
    with across_tenants():
        report = add_up(None, ago(9).date(), ago(-1).date(), "tenant")
        users = add_up(None, ago(9).date(), ago(-1).date(), "user").groups
    assert report.total["requests"] == 6
    assert [(row["name"], row["key"], row["requests"]) for row in report.groups] == [
        ("Globex", str(tokyo.pk), 4),
        ("Acme", str(acme.pk), 2),
    ]
    alices = [(row["tenant_id"], row["requests"]) for row in users if row["key"] == "alice"]
    assert alices == [(tokyo.pk, 2), (acme.pk, 1)]


@pytest.mark.parametrize("seed", range(6))
def test_what_all_tenants_used_most_is_the_same_whether_or_not_the_biggest_suffice(database: None, seed: int) -> None:
    chance = random.Random(seed)
    tenants = [factories.make_tenant(f"t-{n}", time_zone=chance.choice(ZONES)) for n in range(5)]
    issued = {tenant: [issue(tenant), issue(tenant)] for tenant in tenants}
    for _ in range(30):
        # Little between them, so that many are equal, and some used nothing.
        tenant = chance.choice(tenants)
        what = {"assistant_id": chance.choice([*ASSISTANTS, None]), "api_key": chance.choice([*issued[tenant], None])}
        put(tenant, ago(chance.randrange(40)), prompt_tokens=chance.choice([0, 20]), completion_tokens=0, **what)
    rollups.roll_up()
    days = ago(40).date(), ago(-1).date()
    for biggest, most in itertools.product((1, 2, 4, 20), (1, 2, 5)):
        with across_tenants():
            found = of_all_tenants(*days, ["assistant", "key"], most, biggest=biggest)
            reports = add_up_by(None, *days, ["tenant", "model", "assistant", "key"], most=most)
        assert found == {by: report.groups for by, report in reports.items()}, (biggest, most)
