"""Limits in the admin: operators set them, owners read theirs, and nonsense is refused with a sentence."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apps.tenants.models import ApiKey, AuditEntry
from apps.tenants.scoping import tenant_scope
from apps.usage import limits
from apps.usage.limit_models import Grant, Plan, Quota, TenantPlan
from apps.usage.shares import Share, share_of
from chatbot.quota import Account
from tests import factories
from tests.apps.admin_world import World, logged_in, make_world

pytestmark = pytest.mark.usefixtures("database")
LIMIT = {
    "level": "tenant",
    "subject": "",
    "metric": "tokens",
    "window": "day",
    "amount": "1000",
    "burst": "",
    "note": "",
}

PLAN = {
    "name": "Small",
    "weight": "1",
    "documents_at_once": "4",
    "limits-TOTAL_FORMS": "0",
    "limits-INITIAL_FORMS": "0",
}


@pytest.fixture
def world() -> World:
    made = make_world()
    for model in (Quota, Grant, TenantPlan, Plan):
        model.objects.all().delete()
    return made


@pytest.fixture
def operator(world: World) -> Client:
    return logged_in(world.operator)


def add(client: Client, model: str, world: World, **fields: Any) -> Any:
    url = reverse(f"admin:usage_{model}_add") + f"?tenant={world.acme.slug}"
    return client.post(url, {"hard": "on", **fields})


def said(response: Any) -> str:
    assert response.status_code == 200, response
    form = response.context["adminform"].form
    return " ".join(message for messages in form.errors.values() for message in messages)


def test_a_limit_holds_from_then_on(world: World, operator: Client) -> None:
    assert add(operator, "quota", world, **LIMIT).status_code == 302
    with tenant_scope(world.acme):
        [limit] = limits.read(world.acme).of([(Account("tenant"), "")])
    assert (limit.name, limit.amount, limit.hard) == ("tenant.tokens.day", 1000, True)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"amount": "-1"}, "greater than or equal to"),
        ({"amount": "0"}, "greater than or equal to"),
        ({"amount": "1.5"}, "Only money comes in fractions."),
        ({"metric": "stars"}, "stars is not one of the available choices"),
        ({"window": "once"}, "everything else has one"),
        ({"metric": "turns"}, "Questions at the same time have no window"),
        ({"metric": "documents"}, "nor has what is kept of documents"),
        ({"metric": "bytes", "window": "once", "level": "key"}, "kept by the tenant as a whole, or by a collection"),
        ({"metric": "bytes", "window": "once", "amount": "0.5"}, "Only money comes in fractions."),
        ({"metric": "pages", "window": "minute"}, "counted by the hour, the day or the month"),
        ({"metric": "ingestion", "level": "user"}, "belongs to the tenant as a whole"),
        ({"level": "collection"}, "Of a collection only documents and their bytes are counted."),
        ({"burst": "5"}, "Only a limit for a minute has a burst."),
        ({"subject": "chat:write"}, "The tenant as a whole is only one."),
        ({"person": "somebody"}, "Only a limit of end users or visitors names one of them."),
        ({"level": "key", "subject": "chat:write"}, "This is one of another kind (Scope) than the limit is of."),
        ({"level": "user", "subject": "chat:write"}, "An end user is named in the field below."),
        ({"level": "key", "subject": str(uuid.uuid4())}, "is not one of the available choices"),
        ({"level": "key", "amount": "2000"}, "The tenant as a whole would have 1,000, which is less than 2,000"),
        ({}, "There is such a limit already."),
    ],
)
def test_nonsense_is_refused(world: World, operator: Client, fields: dict[str, str], sentence: str) -> None:
    add(operator, "quota", world, **LIMIT)
    assert sentence in said(add(operator, "quota", world, **{**LIMIT, **fields}))
    assert Quota.objects.count() == 1


def test_a_plan_whose_parts_exceed_the_whole_is_refused(operator: Client) -> None:
    rows = [
        {"level": "user", "metric": "tokens", "window": "day", "amount": "500"},
        {"level": "tenant", "metric": "tokens", "window": "day", "amount": "100"},
    ]
    form = {**PLAN, "limits-TOTAL_FORMS": "2"}
    for number, row in enumerate(rows):
        form |= {f"limits-{number}-{name}": value for name, value in row.items()} | {f"limits-{number}-hard": "on"}
    refused = operator.post(reverse("admin:usage_plan_add"), form)
    assert b"which is less than 500 for one part of it" in refused.content
    form["limits-1-amount"] = "1000"
    assert operator.post(reverse("admin:usage_plan_add"), form).status_code == 302
    assert Plan.objects.get().limits.count() == 2


@pytest.mark.parametrize("nonsense", [{"weight": "0"}, {"weight": "101"}, {"documents_at_once": "0"}, {"weight": ""}])
def test_a_share_of_nothing_is_refused(operator: Client, nonsense: dict[str, str]) -> None:
    assert said(operator.post(reverse("admin:usage_plan_add"), {**PLAN, **nonsense}))
    assert not Plan.objects.exists()


def test_a_plan_says_how_much_of_the_workers_its_tenants_get(world: World, operator: Client) -> None:
    form = {**PLAN, "is_default": "on", "weight": "3", "documents_at_once": "9"}
    assert operator.post(reverse("admin:usage_plan_add"), form).status_code == 302
    with tenant_scope(world.acme):
        assert share_of(world.acme.pk) == Share(3, 9)
    TenantPlan.objects.filter(tenant=world.acme).update(plan=Plan.objects.create(name="Plain"))
    factories.make_quota(tenant=world.globex)  # whose row of TenantPlan names no plan
    with tenant_scope(world.globex):
        assert share_of(world.globex.pk) == Share(3, 9)


def test_each_change_of_a_plan_or_a_limit_is_another_version(world: World) -> None:
    def version() -> str:
        with tenant_scope(world.acme):
            return limits.read(world.acme).version

    seen = [version()]
    plan = Plan.objects.create(name="All", is_default=True)
    seen.append(version())
    row = plan.limits.create(level="tenant", metric="tokens", window="day", amount=5)
    seen.append(version())
    quota = factories.make_quota(tenant=world.acme, metric="requests")
    seen.append(version())
    quota.delete()
    seen.append(version())
    row.delete()
    seen.append(version())
    other = Plan.objects.create(name="Other")
    TenantPlan.objects.filter(tenant=world.acme).update(plan=other)
    seen.append(version())
    assert len(set(seen)) == len(seen)


def test_what_is_granted_comes_on_top_until_the_window_ends_and_is_in_the_audit_log(
    world: World, operator: Client
) -> None:
    add(operator, "quota", world, **LIMIT)
    given = {"level": "tenant", "subject": "", "metric": "tokens", "window": "day", "amount": "500", "reason": "A fair"}
    assert add(operator, "grant", world, **given).status_code == 302
    grant = Grant.objects.get()
    assert grant.granted_by == world.operator
    assert (grant.expires - grant.created).total_seconds() <= 86_400
    with tenant_scope(world.acme):
        assert [limit.amount for limit in limits.read(world.acme).of([(Account("tenant"), "")])] == [1500]
    assert AuditEntry.objects.filter(action__contains="grant").exists()
    assert "required" in said(add(operator, "grant", world, **{**given, "reason": ""}))


def test_of_which_key_is_chosen_among_the_tenants_own(world: World, operator: Client) -> None:
    mine, theirs = (ApiKey.objects.for_tenant(tenant).get() for tenant in (world.acme, world.globex))
    page = operator.get(reverse("admin:usage_quota_add") + f"?tenant={world.acme.slug}").content.decode()
    assert f"acme key ({mine.key_id})" in page
    assert "acme assistant" in page
    assert "acme application" in page
    assert "globex" not in page.split("<form", 1)[1].split('name="subject"')[1].split("</select>")[0]
    fields = {**LIMIT, "level": "key", "subject": str(mine.pk)}
    assert "is not one of the available choices" in said(
        add(operator, "quota", world, **{**fields, "subject": str(theirs.pk)})
    )
    assert add(operator, "quota", world, **fields).status_code == 302
    quota = Quota.objects.get()
    assert quota.subject == str(mine.pk)
    mine.delete()
    change = reverse("admin:usage_quota_change", args=[quota.pk])
    assert b"Deleted meanwhile" in operator.get(change).content
    assert operator.post(change, {**fields, "hard": "on", "amount": "7"}).status_code == 302
    quota.refresh_from_db()
    assert (quota.subject, quota.amount) == (fields["subject"], 7)


def test_an_end_user_is_named_by_the_tenants_own_id_in_limits_and_grants(world: World, operator: Client) -> None:
    one = {**LIMIT, "level": "user", "person": "customer-17"}
    assert add(operator, "quota", world, **one).status_code == 302
    quota = Quota.objects.get()
    assert quota.subject == "customer-17"
    assert b'value="customer-17"' in operator.get(reverse("admin:usage_quota_change", args=[quota.pk])).content
    more = {"level": "user", "person": "customer-17", "metric": "tokens", "window": "day", "amount": "500"}
    assert add(operator, "grant", world, **more, subject="", reason="A fair").status_code == 302
    accounts = [(Account("user", "u1"), "customer-17"), (Account("user", "u2"), "customer-18")]
    with tenant_scope(world.acme):
        assert [limit.amount for limit in limits.read(world.acme).of(accounts)] == [1500]
    owner = logged_in(world.alice)
    assert b"customer-17" in owner.get(reverse("admin:usage_quota_change", args=[quota.pk])).content


@pytest.mark.parametrize("model", ["quota", "grant", "tenantplan"])
def test_owners_read_theirs_and_change_nothing(world: World, model: str) -> None:
    factories.make_quota(tenant=world.acme, note="of acme")
    factories.make_quota(tenant=world.globex, note="of globex")
    owner = logged_in(world.alice)
    listed = owner.get(reverse(f"admin:usage_{model}_changelist"))
    assert listed.status_code == 200
    assert b"of globex" not in listed.content
    assert owner.get(reverse(f"admin:usage_{model}_add")).status_code == 403
    assert owner.get(reverse("admin:usage_plan_changelist")).status_code == 403
