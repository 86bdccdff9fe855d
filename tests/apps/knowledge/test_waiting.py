"""A quota of pages or tokens that is used up: documents wait, go on by themselves, and pay once for each step."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db.models import Sum
from django.utils import timezone

from apps.inference import gateway
from apps.knowledge import admin_status, lease, metering, tasks
from apps.knowledge.collections import delete_collection
from apps.knowledge.ingest import delete_document, ingest, replace_document, retry_document
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage import ingesting, ledger, meter
from apps.usage.models import Quota, UsageRecord
from apps.usage.reconciling import Found, reconcile
from apps.usage.reports import add_up
from chatbot.quota import Account, Amounts
from chatbot.tokens import estimate
from tests.apps.knowledge.asking import client_of
from tests.apps.knowledge.ingesting import (
    added,
    embedded,
    in_thread,
    ingested,
    let_lease_run_out,
    live_texts,
    manual,
    page,
    pdf,
    until,
)
from tests.factories import make_quota
from tests.fakes.inference import FakeInference, Reply

TWO_PAGES = ("Close the valve, then wait.", "Open the valve again.")


def pages_of(acme: Tenant, collection: Collection, *texts: str, name: str = "manual.pdf") -> Document:
    return added(acme, collection, pdf(*texts), name)


def bills(tenant: Tenant) -> dict[str, int]:
    """What the ledger bills, and how many rows it has of losses and of what is still reserved."""
    rows = UsageRecord.objects.for_tenant(tenant).filter(kind="ingestion")
    billed = rows.filter(bill="once").aggregate(pages=Sum("pages", default=0), tokens=Sum("prompt_tokens", default=0))
    return {
        **billed,
        "losses": rows.filter(bill="loss").count(),
        "reserved": rows.filter(state="reserved").count(),
    }


def let_pass(tenant: Tenant, days: int = 40) -> None:
    """As if so long had gone by since all that was used."""
    rows = UsageRecord.objects.for_tenant(tenant)
    for row in rows:
        rows.filter(pk=row.pk).update(created=row.created - dt.timedelta(days=days))
    Document.objects.for_tenant(tenant).filter(status="waiting").update(next_attempt_at=timezone.now())


def raised(quota: Quota, amount: int) -> None:
    quota.amount = amount
    quota.save()


# --- Pages ------------------------------------------------------------------------------------------------------------


def test_without_a_limit_pages_and_tokens_are_entered(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    document = ingested(acme, pages_of(acme, manuals, *TWO_PAGES))
    assert document.status == "ready"
    tokens = sum(map(estimate, embedded(embeddings)))
    assert bills(acme) == {"pages": 2, "tokens": tokens, "losses": 0, "reserved": 0}
    assert set(UsageRecord.objects.values_list("document_id", flat=True)) == {document.pk}
    today = timezone.now().date()
    with tenant_scope(acme):
        report = add_up(acme, today, today, "kind")
    assert [(group["key"], group["pages"], group["prompt_tokens"], group["requests"]) for group in report.groups] == [
        ("ingestion", 2, tokens, 0)
    ]


def test_a_document_waits_and_says_for_what(acme: Tenant, manuals: Collection, embeddings: FakeInference) -> None:
    Tenant.objects.filter(pk=acme.pk).update(time_zone="Asia/Tokyo")
    make_quota(tenant=acme, metric="pages", window="month", amount=3)
    assert ingested(acme, pages_of(acme, manuals, *TWO_PAGES)).status == "ready"
    sent = len(embedded(embeddings))
    document = ingested(acme, pages_of(acme, manuals, "Another", "manual"))
    assert document.status == "waiting"
    shown = client_of(acme).get(f"/api/v1/documents/{document.pk}").json()
    assert shown["status"] == "waiting"
    assert shown["failure"]["code"] == "quota_exceeded"
    message = shown["failure"]["message"]
    assert message.startswith("Waits for the quota of pages to be free at 00:00 on 1 ")
    assert message.endswith("(Asia/Tokyo). This workspace may use 3 pages of documents a month.")
    assert message in admin_status.status_html(document)
    local = document.next_attempt_at.astimezone(dt.timezone(dt.timedelta(hours=9)))
    assert (local.day, local.hour, local.minute) == (1, 0, 0)
    assert local > timezone.now()
    assert len(embedded(embeddings)) == sent
    assert bills(acme)["pages"] == 2


def test_it_goes_on_by_itself_when_the_window_ends(acme: Tenant, manuals: Collection) -> None:
    make_quota(tenant=acme, metric="pages", window="day", amount=2)
    ingested(acme, pages_of(acme, manuals, *TWO_PAGES))
    document = ingested(acme, pages_of(acme, manuals, "Another", "manual"))
    assert document.status == "waiting"
    tasks.resend_documents()
    document.refresh_from_db()
    assert document.status == "waiting"  # nothing has changed
    let_pass(acme)
    tasks.resend_documents()
    document.refresh_from_db()
    assert document.status == "queued"
    assert ingested(acme, document).status == "ready"
    document.refresh_from_db()
    assert (document.failure_code, document.failure_message) == ("", "")
    assert bills(acme)["pages"] == 4


def test_it_goes_on_when_the_limit_is_raised(acme: Tenant, manuals: Collection) -> None:
    quota = make_quota(tenant=acme, metric="pages", window="month", amount=2)
    ingested(acme, pages_of(acme, manuals, *TWO_PAGES))
    waiting = [ingested(acme, pages_of(acme, manuals, f"Book {n}", "page two")) for n in range(3)]
    assert {document.status for document in waiting} == {"waiting"}
    raised(quota, 6)
    tasks.resend_documents()
    # All of them had been refused before they were read, so one page is all that is known to be needed.
    for document in waiting:
        ingested(acme, document)
    states = sorted(Document.objects.filter(pk__in=[document.pk for document in waiting]).values_list("status"))
    assert states == [("ready",), ("ready",), ("waiting",)]
    raised(quota, 7)
    tasks.resend_documents()
    assert ingested(acme, Document.objects.get(status="queued")).status == "waiting"
    tasks.resend_documents()
    assert Document.objects.filter(status="waiting", needs=2).count() == 1  # by now it is known to need two
    raised(quota, 8)
    tasks.resend_documents()
    last = Document.objects.get(status="queued")
    assert ingested(acme, last).status == "ready"
    assert bills(acme)["pages"] == 8


def test_what_never_fits_fails_with_a_sentence(acme: Tenant, manuals: Collection) -> None:
    make_quota(tenant=acme, metric="pages", window="day", amount=2)
    document = ingested(acme, pages_of(acme, manuals, "one", "two", "three"))
    assert (document.status, document.failure_code) == ("failed", "quota_exceeded")
    assert document.failure_message == (
        "This workspace may use 2 pages of documents a day. This needs 3 pages at once."
        " Split it, or have the limit raised, and retry."
    )
    assert bills(acme)["pages"] == 0


def test_a_format_without_pages_counts_by_its_text(acme: Tenant, manuals: Collection) -> None:
    ingested(acme, added(acme, manuals, b"# Note\n\nClose it."))
    assert bills(acme)["pages"] == 1
    ingested(acme, added(acme, manuals, ("# Book\n\n" + "Close the valve. " * 400).encode(), "book.md"))
    assert bills(acme)["pages"] == 1 + 3  # 6,800 characters


def test_of_two_workers_one_gets_the_last_pages(acme: Tenant, manuals: Collection) -> None:
    quota = make_quota(tenant=acme, metric="pages", window="month", amount=1)
    for round_ in range(5):
        raised(quota, 2 * (round_ + 1))
        pair = [pages_of(acme, manuals, f"Round {round_}", f"half {half}") for half in "ab"]
        with in_thread(lambda pk=pair[0].pk: ingest(acme.pk, pk)):  # type: ignore[misc]
            ingest(acme.pk, pair[1].pk)
        states = [document.status for document in Document.objects.filter(pk__in=[each.pk for each in pair])]
        assert sorted(states) == ["ready", "waiting"]
        assert bills(acme)["pages"] == 2 * (round_ + 1)
        delete_document(acme, Document.objects.get(status="waiting"))


# --- Tokens -----------------------------------------------------------------------------------------------------------


def test_as_many_passages_are_embedded_as_there_is_room_for(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    whole = ingested(acme, added(acme, manuals, manual(12)))
    each = bills(acme)["tokens"] // whole.passages
    sent = len(embedded(embeddings))
    quota = make_quota(tenant=acme, metric="ingestion", window="hour", amount=bills(acme)["tokens"] + 5 * each + 20)
    document = ingested(acme, added(acme, manuals, manual(12, version="two"), "two.md"))
    assert document.status == "waiting"
    assert "Waits for the quota of tokens to be free at" in document.failure_message
    assert 4 <= document.progress_done < document.passages + 12
    assert document.progress_done == len(embedded(embeddings)) - sent
    assert bills(acme)["tokens"] <= quota.amount
    assert live_texts(document) == []
    raised(quota, 100_000)
    tasks.resend_documents()
    document.refresh_from_db()
    assert (document.status, ingested(acme, document).status) == ("queued", "ready")
    new = embedded(embeddings)[sent:]
    assert len(new) == len(set(new)) == document.passages
    assert bills(acme) == {
        "pages": bills(acme)["pages"],
        "tokens": sum(map(estimate, embedded(embeddings))),
        "losses": 0,
        "reserved": 0,
    }


def test_a_passage_that_never_fits_fails(acme: Tenant, manuals: Collection) -> None:
    make_quota(tenant=acme, metric="ingestion", window="day", amount=5)
    document = ingested(acme, added(acme, manuals, manual(1)))
    assert (document.status, document.failure_code) == ("failed", "quota_exceeded")


def test_what_a_dead_worker_had_reserved_is_free_again(acme: Tenant, manuals: Collection) -> None:
    document = added(acme, manuals, manual(2))
    with tenant_scope(acme):
        ingesting.reserve_tokens(acme, document.pk, [1_000], manuals.index.endpoint)
    make_quota(tenant=acme, metric="ingestion", window="day", amount=1_000)
    assert ingested(acme, document).status == "ready"
    assert bills(acme)["losses"] == 1
    assert bills(acme)["reserved"] == 0


@pytest.mark.parametrize("alone", [True, False])
def test_what_a_dead_worker_had_reserved_is_free_again_once_its_document_is_deleted(
    acme: Tenant, manuals: Collection, alone: bool
) -> None:
    document = added(acme, manuals, manual(2))
    with tenant_scope(acme):
        ingesting.reserve_tokens(acme, document.pk, [1_000], manuals.index.endpoint)
    if alone:
        delete_document(acme, document)
    else:
        delete_collection(acme, manuals)
    assert (bills(acme)["losses"], bills(acme)["reserved"]) == (1, 0)


def test_what_is_being_reserved_while_a_worker_is_stopped_is_free_again(
    acme: Tenant, manuals: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is lost in the moment in which it reserves, so nobody knows the reservation yet."""
    reserves, is_stopped = threading.Event(), threading.Event()
    reserve, renew = metering.reserve, lease.renew

    def reserve_slowly(*args: Any) -> Any:
        batch = reserve(*args)
        reserves.set()
        assert is_stopped.wait(60)
        time.sleep(0.3)  # until the work knows
        return batch

    def renew_in_vain(*args: Any) -> None:
        if reserves.is_set():
            is_stopped.set()
            raise lease.SupersededError
        renew(*args)

    monkeypatch.setattr(lease, "RENEW_EVERY", 0.05)
    monkeypatch.setattr(lease, "renew", renew_in_vain)
    monkeypatch.setattr(metering, "reserve", reserve_slowly)
    ingest(acme.pk, added(acme, manuals, manual(2)).pk)
    assert is_stopped.is_set()
    assert (bills(acme)["losses"], bills(acme)["reserved"]) == (1, 0)


def test_a_failing_endpoint_costs_nothing(acme: Tenant, manuals: Collection, embeddings: FakeInference) -> None:
    embeddings.script(Reply(kind="embedding", status=500))
    document = ingested(acme, added(acme, manuals, manual(2)))
    assert document.status == "retrying"
    assert (bills(acme)["tokens"], bills(acme)["reserved"]) == (0, 0)
    paid = bills(acme)["pages"]
    gateway.forget()  # that it failed
    retry_document(acme, document)
    document = ingested(acme, document)
    assert document.status == "ready"
    assert bills(acme)["pages"] == paid  # it was read once


def test_a_worker_that_lost_its_document_pays_nothing(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    embeddings.script(Reply(kind="embedding", held=True))
    document = added(acme, manuals, manual(1))
    with in_thread(lambda: ingest(acme.pk, document.pk)):
        until(lambda: bool(embeddings.requests))
        let_lease_run_out(document)
        ingest(acme.pk, document.pk)
        embeddings.release()
    document.refresh_from_db()
    assert document.status == "ready"
    assert bills(acme)["tokens"] == sum(map(estimate, set(embedded(embeddings))))
    assert bills(acme)["reserved"] == 0
    assert len(embedded(embeddings)) == 2


def test_what_was_given_up_for_lost_and_came_is_billed_once(
    acme: Tenant, manuals: Collection, embeddings: FakeInference
) -> None:
    embeddings.script(Reply(kind="embedding", held=True))
    document = added(acme, manuals, manual(1))
    with in_thread(lambda: ingest(acme.pk, document.pk)):
        until(lambda: bool(embeddings.requests))
        nothing: Any = UsageRecord.objects.none().values("pk")
        assert ledger.settle_abandoned(timezone.now() + dt.timedelta(hours=1), lambda _: nothing) == 1
        embeddings.release()
    assert bills(acme) == {
        "pages": bills(acme)["pages"],
        "tokens": sum(map(estimate, embedded(embeddings))),
        "losses": 0,
        "reserved": 0,
    }


def test_new_bytes_pay_for_what_is_new(acme: Tenant, manuals: Collection, embeddings: FakeInference) -> None:
    document = ingested(acme, added(acme, manuals, manual(8)))
    before = bills(acme)
    changed = manual(8).replace(page(4).encode(), page(4, version="changed").encode())
    ingested(acme, replace_document(acme, document, name="manual.md", content=changed))
    after = bills(acme)
    assert after["pages"] >= 2 * before["pages"]  # it is read as a whole
    assert 0 < after["tokens"] - before["tokens"] < before["tokens"]


def test_counters_of_questions_stay_as_they_are(acme: Tenant, manuals: Collection) -> None:
    make_quota(tenant=acme, metric="tokens", window="day", amount=10)
    assert ingested(acme, added(acme, manuals, manual(3))).status == "ready"
    assert bills(acme)["tokens"] > 10

    async def counted() -> Found:
        # The counter of the day is there, and holds what the ledger has of questions.
        await meter.reserve(acme, uuid.uuid4(), [(Account("tenant"), "")], Amounts())
        return await reconcile(acme, repair=False)

    assert async_to_sync(counted)() == Found(1, [])


@pytest.mark.parametrize("metric", ["pages", "ingestion"])
def test_a_soft_limit_only_counts(acme: Tenant, manuals: Collection, metric: str) -> None:
    make_quota(tenant=acme, metric=metric, window="day", amount=1, hard=False)
    assert ingested(acme, pages_of(acme, manuals, *TWO_PAGES)).status == "ready"
    assert bills(acme)["pages"] == 2
