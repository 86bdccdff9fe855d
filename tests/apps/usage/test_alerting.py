"""Limits that are reached are told of once: by mail, by webhook, to the operators; whatever dies on the way."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.cache import cache
from django.db import connections
from django.utils import timezone

from apps.edge import broker
from apps.edge.shared_state import redis
from apps.tenants import lookups
from apps.tenants.models import Membership, User
from apps.tenants.scoping import platform_unit
from apps.usage import alerting, limits, looking, telling
from apps.usage.models import Grant, LookedAt, Plan, Quota, QuotaAlert, UsageRecord
from apps.webhooks.models import Delivery, Event
from tests import factories
from tests.apps.conversations.conftest import Api, World, api, fake, world
from tests.apps.webhooks.conftest import make_webhook
from tests.apps.webhooks.receiver import Receiver
from tests.apps.webhooks.test_operators import SECRET
from tests.apps.webhooks.test_worker import worker
from tests.environment import Backends

__all__ = ["api", "fake", "world"]

CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def told(world: World, settings: Any) -> None:
    """acme has an owner, an editor and a webhook, and mail leaves."""
    settings.PARLEY_MAIL = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    settings.PARLEY_PRIVATE_WEBHOOK_HOSTS = ["127.0.0.1"]
    world.script("Prime", " it.", always=True)


@pytest.fixture
async def owner(world: World) -> User:
    def make() -> User:
        factories.make_member(tenant=world.tenant, email="bob@acme.example")
        make_webhook(world.tenant, events=[Event.QUOTA_REACHED])
        return factories.make_member(tenant=world.tenant, email="alice@acme.example", role=Membership.Role.OWNER)

    return await platform_unit(make)


async def limit(world: World, **fields: Any) -> Quota:
    return await platform_unit(lambda: factories.make_quota(tenant=world.tenant, **{"metric": "requests", **fields}))


async def ask(api: Api, times: int = 1, **more: Any) -> list[int]:
    body = {"model": "guide", "messages": [{"role": "user", "content": "pump?"}], **more}
    answers = [await api.post(CHAT, body, content_type="application/json") for _ in range(times)]
    return [answer.status_code for answer in answers]


async def look(world: World) -> list[tuple[str, int]]:
    """What was told of at this look: to webhooks, and by mail where there is one."""
    before = set(await deliveries(world, lambda row: row.pk))
    await looking.look()
    await tell(world)
    rows = await deliveries(world, lambda row: row)
    return sorted((row.data["limit"], row.data["threshold"]) for row in rows if row.pk not in before)


async def tell(world: World) -> None:
    """As a worker does."""

    def work() -> None:
        try:
            telling.tell(world.tenant.pk)
        finally:
            connections.close_all()

    await asyncio.to_thread(work)


async def deliveries(world: World, of: Callable[[Delivery], Any]) -> list[Any]:
    return await platform_unit(lambda: [of(row) for row in Delivery.objects.for_tenant(world.tenant)])


async def test_each_threshold_is_told_once(world: World, api: Api, owner: User) -> None:
    await limit(world, amount=10)
    assert await ask(api, 7) == [200] * 7
    assert await look(world) == []
    await ask(api)
    assert await look(world) == [("tenant.requests.day", 80)]
    await ask(api)
    assert await look(world) == []
    assert await ask(api, 2) == [200, 429]
    assert await look(world) == [("tenant.requests.day", 100)]
    assert await look(world) == []
    first, second = mail.outbox
    assert first.to == second.to == ["alice@acme.example"]
    assert first.subject == "Acme has used most of a limit on Parley"
    assert (
        "This workspace has used 8 of 10 questions a day (80%). Beyond the limit, more is refused until" in first.body
    )
    assert "This workspace has used 10 of 10 questions a day (100%). More is refused until" in second.body
    used = await deliveries(world, lambda row: (row.data["threshold"], row.data["used"]))
    assert sorted(used) == [(80, 8), (100, 10)]


async def test_what_is_kept_and_what_documents_used_is_told_of(world: World, owner: User) -> None:
    await limit(world, metric="documents", window="once", amount=5)
    await limit(world, metric="pages", window="month", amount=10)

    def upload(count: int, pages: int) -> None:
        collection = factories.make_collection(tenant=world.tenant, name=f"Of {count}")
        for _ in range(count):
            factories.make_document(tenant=world.tenant, collection=collection)
        settled = {"state": "settled", "bill": "once", "settled_at": timezone.now()}
        UsageRecord.objects.create(tenant=world.tenant, kind="ingestion", pages=pages, **settled)

    assert await look(world) == []
    kept = await platform_unit(lambda: factories.Document.objects.for_tenant(world.tenant).count())
    await platform_unit(upload, 4 - kept, 9)
    assert await look(world) == [("tenant.documents.once", 80), ("tenant.pages.month", 80)]
    assert await look(world) == []
    await platform_unit(upload, 1, 1)
    assert await look(world) == [("tenant.documents.once", 100), ("tenant.pages.month", 100)]
    text = "\n".join(message.body for message in mail.outbox)
    assert "This workspace keeps 4 of 5 documents (80%). Beyond the limit, nothing is taken in until something" in text
    assert "This workspace has used 9 of 10 pages of documents a month (90%). Beyond the limit, more is refused" in text
    told = await deliveries(world, lambda row: row.data)
    assert {row["begins"] is None for row in told if row["limit"] == "tenant.documents.once"} == {True}


async def test_what_a_webhook_is_told(world: World, api: Api, owner: User) -> None:
    await limit(world, level="user", amount=5, hard=False)
    await ask(api, 4, user="customer-17")
    assert await look(world) == [("user.requests.day", 80)]
    [data] = await deliveries(world, lambda row: row.data)
    begins = dt.datetime.fromisoformat(data.pop("begins"))
    assert dt.datetime.fromisoformat(data.pop("ends")) - begins == dt.timedelta(days=1)
    assert data == {
        "limit": "user.requests.day", "subject": "customer-17", "threshold": 80, "used": 4, "amount": 5,
        "refuses": False,
    }  # fmt: skip


async def test_a_limit_that_refuses_nothing_is_told_of_likewise(world: World, api: Api, owner: User) -> None:
    await limit(world, amount=2, hard=False)
    assert await ask(api, 3) == [200] * 3
    assert await look(world) == [("tenant.requests.day", 100)]
    assert "has used 3 of 2 questions a day (150%). This limit refuses nothing." in mail.outbox[0].body


async def test_a_limit_of_the_plan_and_a_grant_count(world: World, api: Api, owner: User) -> None:
    def plan() -> None:
        default = Plan.objects.create(name="All", is_default=True)
        default.limits.create(level="assistant", metric="requests", window="month", amount=4)
        limits.forget()

    await platform_unit(plan)
    await grant(world, level="assistant", window="month", amount=6)
    await ask(api, 7)
    assert await look(world) == []
    await ask(api)
    assert await look(world) == [("assistant.requests.month", 80)]


async def grant(world: World, **fields: Any) -> None:
    def make() -> None:
        expires = timezone.now() + dt.timedelta(days=31)
        Grant.objects.create(tenant=world.tenant, metric="requests", reason="A fair", expires=expires, **fields)
        limits.forget()

    await platform_unit(make)


async def test_a_raised_limit_is_told_of_again_and_no_other_one(world: World, api: Api, owner: User) -> None:
    quota = await limit(world, amount=5)
    await limit(world, level="assistant", amount=5)
    await ask(api, 4)
    assert await look(world) == [("assistant.requests.day", 80), ("tenant.requests.day", 80)]
    quota.amount = 10
    await platform_unit(quota.save)
    limits.forget()
    assert await look(world) == []  # 40% of it
    await limit(world, level="key", amount=1000)  # another change of the limits tells nothing again
    assert await look(world) == []
    await platform_unit(Quota.objects.filter(level="assistant").update, amount=20)
    limits.forget()
    await ask(api, 4)
    assert await look(world) == [("tenant.requests.day", 80)]
    quota.amount = 9  # 88% of it: known
    await platform_unit(quota.save)
    limits.forget()
    assert await look(world) == []


async def test_what_is_granted_is_another_limit_to_tell_of(world: World, api: Api, owner: User) -> None:
    await limit(world, amount=5)
    await ask(api, 5)
    assert await look(world) == [("tenant.requests.day", 100)]
    await grant(world, level="tenant", window="day", amount=5)
    assert await look(world) == []
    await ask(api, 3)
    assert await look(world) == [("tenant.requests.day", 80)]
    await ask(api, 2)
    assert await look(world) == [("tenant.requests.day", 100)]


async def test_a_limit_that_comes_later_is_told_of_though_nobody_can_ask(world: World, api: Api, owner: User) -> None:
    await ask(api, 6)
    await look(world)
    await platform_unit(LookedAt.objects.update, until=timezone.now() + dt.timedelta(seconds=5))
    await limit(world, amount=3)
    assert await ask(api) == [429]
    await platform_unit(LookedAt.objects.update, until=timezone.now())
    assert await look(world) == [("tenant.requests.day", 100)]


async def test_what_is_only_reserved_is_not_told(world: World, api: Api, owner: User) -> None:
    await limit(world, metric="tokens", amount=5_000)
    world.script("Prime", " it.", held=True)
    asking = asyncio.create_task(ask(api, max_tokens=200))
    asked = UsageRecord.objects.filter(state="reserved", reserved_tokens__gt=0).values_list(
        "reserved_tokens", flat=True
    )
    while not (reserved := await platform_unit(asked.first)):
        assert not asking.done()
        await asyncio.sleep(0.02)
    await platform_unit(Quota.objects.update, amount=reserved)  # all of it, as long as it runs
    limits.forget()
    assert await look(world) == []
    world.fake.release()
    assert await asking == [200]
    [row] = await platform_unit(lambda: list(UsageRecord.objects.all()))
    await platform_unit(Quota.objects.update, amount=(row.prompt_tokens + row.completion_tokens) * 1.2 // 1)
    limits.forget()
    assert await look(world) == [("tenant.tokens.day", 80)]


async def used(world: World, tokens: int) -> None:
    settled = {"state": "settled", "bill": "once", "settled_at": timezone.now()}
    await platform_unit(
        lambda: UsageRecord.objects.create(tenant=world.tenant, turn_id=uuid.uuid4(), prompt_tokens=tokens, **settled)
    )


async def test_a_limit_that_refused_a_question_is_told_of_as_used_up(world: World, api: Api, owner: User) -> None:
    """In tokens all of it is hardly ever used: a question that needs more than is left is refused before."""
    await limit(world, metric="tokens", amount=1_000_000)
    await used(world, 999_990)
    assert await look(world) == [("tenant.tokens.day", 80)]
    assert await ask(api, max_tokens=150) == [429]
    # Also long after anything was used.
    await platform_unit(UsageRecord.objects.update, settled_at=timezone.now() - dt.timedelta(hours=1))
    assert await look(world) == [("tenant.tokens.day", 100)]
    assert "Questions that need more than is left are refused until" in str(mail.outbox[-1].body)
    assert await ask(api, max_tokens=150) == [429]
    assert await look(world) == []


async def test_a_question_that_asks_for_more_than_there_ever_is_uses_nothing_up(
    world: World, api: Api, owner: User
) -> None:
    await limit(world, metric="tokens", amount=100)
    await used(world, 90)
    assert await ask(api, max_tokens=150) == [429]
    assert await look(world) == [("tenant.tokens.day", 80)]


async def test_without_redis_data_the_ledger_is_asked_and_nothing_told_twice(
    world: World, api: Api, owner: User
) -> None:
    await limit(world, amount=5)
    await ask(api, 4)
    await (await redis()).flushdb()
    await platform_unit(cache.clear)
    assert await look(world) == [("tenant.requests.day", 80)]
    await (await redis()).flushdb()
    await platform_unit(cache.clear)
    assert await look(world) == []


async def test_a_window_that_ended_before_anybody_looked_is_told_of(
    world: World, api: Api, owner: User, servers: Backends
) -> None:
    """As after hours without a worker; what was granted in it counts, though it has ended."""
    await limit(world, window="hour", amount=4)
    await limit(world, level="assistant", window="hour", amount=2)
    await look(world)
    await ask(api, 2)
    then = timezone.now() - dt.timedelta(hours=5)
    began = then.replace(minute=0, second=0, microsecond=0)

    def earlier() -> None:
        UsageRecord.objects.update(created=then, settled_at=then)
        LookedAt.objects.update(until=then)
        more = {"tenant": world.tenant, "metric": "requests", "window": "hour", "reason": "A fair"}
        Grant.objects.create(level="assistant", amount=10, expires=began + dt.timedelta(hours=1), **more)

    await platform_unit(earlier)
    # The limits are older than all of this.
    servers.superuser.execute("ALTER TABLE usage_tenantplan DISABLE TRIGGER changed")
    servers.superuser.execute("UPDATE usage_tenantplan SET changed = %s", [then - dt.timedelta(days=1)])
    servers.superuser.execute("ALTER TABLE usage_tenantplan ENABLE TRIGGER changed")
    assert await look(world) == []  # 2 of 4, and 2 of 12
    await platform_unit(Grant.objects.all().delete)
    await platform_unit(LookedAt.objects.update, until=then)
    assert await look(world) == [("assistant.requests.hour", 100)]


async def test_two_workers_at_once_tell_once(world: World, api: Api, owner: User) -> None:
    await limit(world, amount=5)
    await ask(api, 4)

    async def look_too() -> None:
        await platform_unit(cache.clear)  # as if neither knew of the other
        await looking.look()

    await asyncio.gather(*(look_too() for _ in range(4)))
    await asyncio.gather(*(tell(world) for _ in range(4)))
    assert await deliveries(world, lambda row: row.data["threshold"]) == [80]
    assert len(mail.outbox) == 1


async def test_many_people_at_one_limit_are_one_mail_and_each_an_event(world: World, api: Api, owner: User) -> None:
    await limit(world, level="user", amount=1)
    for person in ("a", "b", "c"):
        await ask(api, user=person)
        assert await look(world) == [("user.requests.day", 100)]
    assert [re.findall(r"This user \((.)\)", str(message.body)) for message in mail.outbox] == [["a"]]


async def test_a_mail_that_did_not_leave_is_sent_later_under_the_same_id(
    world: World, api: Api, owner: User, settings: Any
) -> None:
    await limit(world, amount=5)
    await ask(api, 4)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    await look(world)
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    await tell(world)
    assert mail.outbox == []  # not yet

    async def later() -> None:
        await platform_unit(QuotaAlert.objects.update, mail_at=timezone.now())
        await tell(world)

    await later()
    await later()  # as after a crash between sending and saying so
    first, second = (message.extra_headers["Message-ID"] for message in mail.outbox)
    assert first == second
    await tell(world)
    assert len(mail.outbox) == 2


@pytest.mark.parametrize("why", ["no mail server", "suspended"])
async def test_nobody_is_mailed_in_vain(world: World, api: Api, owner: User, settings: Any, why: str) -> None:
    await limit(world, amount=5)
    await ask(api, 4)
    if why == "suspended":
        world.tenant.is_active = False
        await platform_unit(world.tenant.save)
    settings.PARLEY_MAIL = why == "suspended"
    assert await look(world) == [("tenant.requests.day", 80)]
    assert mail.outbox == []
    assert not await platform_unit(QuotaAlert.objects.exclude(mail_at=None).exists)


async def test_another_tenants_use_is_nobodys_business(world: World, api: Api, owner: User) -> None:
    await limit(world, amount=5)
    await ask(api, 4)
    await looking.look()
    assert await platform_unit(lambda: {row.tenant_id for row in QuotaAlert.objects.all()}) == {world.tenant.pk}


async def test_only_those_who_used_something_are_looked_at(world: World, api: Api, owner: User) -> None:
    def others() -> None:
        for _ in range(20):
            factories.make_quota(tenant=factories.make_tenant())

    await platform_unit(others)
    await limit(world)
    await ask(api)
    await look(world)
    # As if the limits had been there for long.
    await platform_unit(LookedAt.objects.update, until=timezone.now() + dt.timedelta(minutes=1))
    since = await platform_unit(looking._since)
    found = await platform_unit(lookups.call, "tenants_to_look_at", since.used, since.changed)
    assert found == [(world.tenant.pk,)]


async def test_old_ones_are_forgotten(world: World, api: Api, owner: User) -> None:
    await limit(world, amount=1)
    await ask(api)
    await look(world)
    assert await platform_unit(alerting.prune) == 0
    await platform_unit(QuotaAlert.objects.update, ends=timezone.now() - alerting.KEPT)
    assert await platform_unit(alerting.prune) == 2


async def test_a_worker_tells_all_and_another_one_nothing_again(
    world: World, api: Api, owner: User, settings: Any, tmp_path: Path
) -> None:
    await limit(world, amount=5)
    await ask(api, 4)
    async with Receiver() as receiver:
        await platform_unit(make_webhook, world.tenant, receiver.url("/theirs"), events=[Event.QUOTA_REACHED])
        how = {
            "EMAIL_URL": f"filemail:///{tmp_path}/mails",
            "PARLEY_OPERATOR_WEBHOOK_URL": receiver.url("/pager"),
            "PARLEY_OPERATOR_WEBHOOK_SECRET": SECRET,
        }
        for _ in range(2):
            with worker(tmp_path / "log", **how):
                assert broker.send("usage.look_at_limits", expires=60)
                async with asyncio.timeout(90):
                    await receiver.received(2)
                    while len(list((tmp_path / "mails").glob("*"))) < 1:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                    await asyncio.sleep(1)
            await platform_unit(cache.clear)
        messages = sorted((request.path, json.loads(request.body)) for request in receiver.requests)
        assert [path for path, _ in messages] == ["/pager", "/theirs"]
        (_, page), (_, theirs) = messages
        assert page["type"] == theirs["type"] == "quota.reached"
        assert page["data"] == {"tenant": "acme", **theirs["data"]}
    [mailed] = (tmp_path / "mails").glob("*")
    assert mailed.read_text().count("Subject:") == 1
    assert "To: alice@acme.example" in mailed.read_text()
